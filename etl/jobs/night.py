"""A night: export what the source lists now, and publish it.

    lock -> resume or begin a run -> walk every slice into the ledger -> publish complete slices -> catalog

A run is one ledger. Each step can be killed and repeated: a walk continues at its checkpoint, publishing recognises
the commits that landed, and the catalog is built anew.
"""

import datetime as dt
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from etl.config import Settings
from etl.errors import ConfigError, LedgerError
from etl.events import working_on
from etl.extract.source import Source
from etl.jobs.origin import source_of
from etl.jobs.workplace import Published, Workplace, plan_of, workplace
from etl.ledger.copies import own_last
from etl.ledger.directory import ledger_paths, set_aside
from etl.ledger.ledger import Ledger
from etl.load.delta.atomic import Change
from etl.load.delta.sources import Filler, check_filler, check_key
from etl.model import WHOLE, RunState, Shard, SliceState, Snapshot
from etl.outcome import Outcome
from etl.pipeline.ahead import Ahead
from etl.pipeline.model_watch import find_changes
from etl.pipeline.plan import Plan
from etl.pipeline.publish import UNPUBLISHABLE, publish
from etl.pipeline.spread import Delivered, Spread
from etl.pipeline.walks import Stop, Walks

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What one invocation asks for besides the settings.

    Without a `snapshot_date`, unfinished runs of every date are finished first, and then the run for today.
    `starting_token` is where the walk of the only slice begins. With `unless_published`, no run begins for a date for
    which a ledger says that the same request is published, all slices of it. Of the slices, those of the `shard` are
    published.
    """

    snapshot_date: dt.date | None = None
    starting_token: str | None = None
    fresh: bool = False
    publish_partial: bool = False
    allow_fall: bool = False
    accept_model: bool = False
    unless_published: bool = False
    accept_source: bool = False
    shard: Shard = WHOLE

    @property
    def target(self) -> dt.date:
        """Return the date of the run that is asked for: today (UTC), if none is named.

        Raises:
            ConfigError: it is in the future.
        """
        today = dt.datetime.now(dt.UTC).date()
        if self.snapshot_date and self.snapshot_date > today:
            raise ConfigError(f"--snapshot-date: {self.snapshot_date} is in the future; today is {today} (UTC)")
        return self.snapshot_date or today


def run(settings: Settings, request: Request, stop: Stop) -> list[Outcome]:
    """Finish unfinished runs of the same request, then the run that was asked for, and return their outcomes.

    Raises:
        LockedError: another job works on this state directory.
        StorageError: a directory cannot be written; found before the first request.
        EtlError: nothing new was published; the message says why.
    """
    target = request.target
    with workplace(settings, stop.is_set) as place:
        check_key(place.tables, settings.privacy.secret)  # also for a run that is resumed: it publishes, too
        with source_of(settings.source, settings.emulator, target, stop) as source, _deadline(settings, stop):
            plan = plan_of(settings, source.operation, source.endpoint_of, request.shard)
            for doubt in plan.key_doubts(place.tables.names()):
                log.warning("%s", doubt)
            if request.starting_token and len(plan.published) != 1:
                names = ", ".join(sorted(plan.published))
                raise ConfigError(
                    f"--starting-token: a token belongs to one slice of one dataset, and {names} are exported; "
                    "name one dataset with --dataset"
                )
            job = _Job(settings, request, place, plan, source, stop)
            outcomes = [job.finish(ledger, target) for ledger in job.unfinished()]
            is_done = any(outcome.run.snapshot_date == target for outcome in outcomes)
            if not is_done and not (request.unless_published and job.is_published(target)):
                outcomes.append(job.work(job.begin(target)))
        place.remove_old_ledgers()
    return outcomes


@dataclass(frozen=True, slots=True)
class _Job:
    """One invocation: what it works with, and the steps that it takes a run through."""

    settings: Settings
    request: Request
    place: Workplace
    plan: Plan
    source: Source
    stop: Stop

    def begin(self, snapshot_date: dt.date) -> Ledger:
        """Return the ledger of a new run.

        Raises:
            ConfigError: a changed service model would break readers, or another source fills this warehouse.
            EtlError: as `Source.account_id`.
        """
        ledgers = own_last(ledger_paths(self.settings.state_dir))  # other machines may have another botocore
        for change in find_changes(ledgers, self.plan.datasets, self.plan.operations):
            if change.breaks_readers and not self.request.accept_model:
                raise ConfigError(
                    f"{change}. Readers of these columns would break: keep the former version of botocore, or go on "
                    "with --accept-model. A removed column then stays and is null. A table with a column of another "
                    "type must be moved away; then `replay --since` rewrites it"
                )
            log.warning("%s", change)
        if not self.request.accept_source:
            # Accounts that the configuration adds to those that are there are meant to be.
            accounts = self.plan.places.account_ids or (self.source.account_id,)
            check_filler(self.place.tables, *(Filler(self.plan.origin, account_id) for account_id in accounts))
        return self.place.begin_run("export", snapshot_date, self.plan.fingerprint, shard=self.plan.shard)

    def is_published(self, snapshot_date: dt.date) -> bool:
        """Tell whether the same request is published for a date, with all of its slices."""
        for path in reversed(ledger_paths(self.settings.state_dir)):
            try:
                with Ledger.open(path) as ledger:
                    run, failed = ledger.run(), any(facts.error for facts in ledger.slices())
            except LedgerError as exc:
                log.warning("%s", exc)
                continue
            wanted = (RunState.PUBLISHED, snapshot_date, self.plan.fingerprint)
            if not failed and (run.state, run.snapshot_date, run.request) == wanted:
                log.info("%s: nothing to do, run %s has published it", snapshot_date, run.run_id)
                return True
        return False

    def unfinished(self) -> Iterator[Ledger]:
        """Yield the ledgers of the unfinished runs that this request continues, oldest first."""
        for path in ledger_paths(self.settings.state_dir):
            try:
                with ExitStack() as opened:
                    ledger = opened.enter_context(Ledger.open(path))
                    if not self._goes_on_with(ledger):
                        continue
                    opened.pop_all()
            except LedgerError as exc:
                if not self.request.fresh:
                    raise
                log.warning("%s. It is set aside", exc)
                set_aside(path)
            else:
                yield ledger

    def finish(self, ledger: Ledger, target: dt.date) -> Outcome:
        """Take an unfinished run through its steps. If an older one cannot be published, note why and go on."""
        run = ledger.run()
        try:
            return self.work(ledger)
        except UNPUBLISHABLE as exc:
            if run.snapshot_date == target:
                raise
            log.error("run %s, snapshot date %s: %s", run.run_id, run.snapshot_date, exc)  # noqa: TRY400  the operator's
            with Ledger.open(ledger.path) as left:
                return Outcome(left.run(), tuple(left.slices()), 0, failure=exc)

    def work(self, ledger: Ledger) -> Outcome:
        """Take a run through its steps, as far as they go now, and return how it stands."""
        began = time.monotonic()
        limits = None if self.request.allow_fall else self.settings.publish

        def publish_all(change: Change) -> Published:
            failure = None
            for name in self.plan.datasets:
                if self.stop.is_set() and not self.stop.by_deadline:
                    return Published(failure, interrupted=True)
                if name in self.plan.published:
                    failed = publish(
                        ledger, self.place.tables, self.plan.layouts[name], change,
                        limits=limits, partial=self.request.publish_partial, ahead=walks.ahead[name],
                    )  # fmt: skip
                    failure = failure or failed
            return Published(failure)

        with ledger, working_on(run_id=ledger.path.stem), ExitStack() as unused:
            walks = self._walks(ledger)
            for given in walks.ahead.values():
                unused.callback(given.give_up)
            walks.walk(ledger)
            outcome = self.place.finish_run(ledger, began, self.plan.origin, publish_all)
        if outcome.finished and isinstance(walks, Spread):
            walks.forget()
        return outcome

    def _walks(self, ledger: Ledger) -> Walks | Spread:
        """Return what walks the slices of a run: threads of this process, or the workers of an engine."""
        settings, plan, tables, run = self.settings, self.plan, self.place.tables, ledger.run()
        snapshots = {
            name: Snapshot(run.run_id, run.snapshot_date, plan.datasets[name], plan.operations[name])
            for name in plan.published
        }
        if settings.engine.kind == "threads":
            ahead = {name: Ahead(tables, plan.layouts[name], snapshot) for name, snapshot in snapshots.items()}
            return Walks(plan, self.source, settings.run, self.stop, self.request.starting_token, ahead)
        from etl.jobs.engine import spread_of  # noqa: PLC0415  a night of threads starts faster without it

        if self.request.starting_token:
            raise ConfigError(f"--starting-token: engine.kind is {settings.engine.kind}; expected threads")
        delivered = {name: Delivered(tables, plan.layouts[name], snapshot) for name, snapshot in snapshots.items()}
        walks = Walks(plan, self.source, settings.run, self.stop, None)
        return spread_of(settings, walks, ledger, tables, delivered)

    def _goes_on_with(self, ledger: Ledger) -> bool:
        """Tell whether this invocation continues a run; close one that no later invocation may continue."""
        run = ledger.run()
        if run.state is not RunState.OPEN or run.request != self.plan.fingerprint:
            return False
        if self.request.snapshot_date not in (None, run.snapshot_date):
            return False
        slices = ledger.slices()
        planned = {facts.slice.dataset for facts in slices}
        walked = planned >= self.plan.datasets.keys() and all(facts.state is not SliceState.WALKING for facts in slices)
        # The clock of the embedded studio may be far behind that of this machine.
        active_at = max([run.started_at, *(facts.observed_until for facts in slices if facts.observed_until)])
        age = dt.datetime.now(dt.UTC) - active_at
        if self.request.fresh or self.request.starting_token:
            reason = "a new walk was asked for"
        elif age > self.settings.run.max_checkpoint_age and not walked:
            reason = f"its checkpoint is {age} old, run.max_checkpoint_age is {self.settings.run.max_checkpoint_age}"
        elif not walked and run.account_id not in (None, self.source.account_id):
            accounts = run.account_id, self.source.account_id
            log.warning("run %s stays open: it lists account %s, the credentials are of %s", run.run_id, *accounts)
            return False
        else:
            log.info("run %s is resumed, snapshot date %s", run.run_id, run.snapshot_date)
            return True
        log.warning("run %s is abandoned: %s", run.run_id, reason)
        ledger.close_run(RunState.ABANDONED)
        return False


@contextmanager
def _deadline(settings: Settings, stop: Stop) -> Iterator[None]:
    """Set `stop` once the job has worked for `run.max_duration`."""
    if settings.run.max_duration is None:
        yield
        return

    def over() -> None:
        if not stop.is_set():
            log.warning("run.max_duration is over: stopping at the next page boundary")
            stop.by_deadline = True
            stop.set()

    timer = threading.Timer(settings.run.max_duration.total_seconds(), over)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
