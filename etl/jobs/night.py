"""A night: export what the source lists now, and publish it.

    lock -> resume or begin a run -> walk every slice into the ledger -> publish what is complete -> catalog

A run is one ledger. Each step can be killed and repeated: walking goes on at the checkpoint, publishing recognises
the commits that landed, and the catalog is built anew.
"""

import datetime as dt
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from etl.config import EMBEDDED, Settings
from etl.errors import ConfigError, LedgerError
from etl.events import reach
from etl.extract.datasets import select_datasets
from etl.extract.source import Endpoint, Source
from etl.jobs.workplace import Workplace, workplace
from etl.ledger.directory import RUN_ID_TIME, ledger_paths, remove_old_ledgers, set_aside
from etl.ledger.ledger import Ledger
from etl.model import RunState, SliceState
from etl.outcome import Outcome
from etl.pipeline.model_watch import find_changes
from etl.pipeline.plan import Plan
from etl.pipeline.publish import publish, publish_facts
from etl.pipeline.settle import UNPUBLISHABLE
from etl.pipeline.walks import Stop, Walks

log = logging.getLogger(__name__)

_NIGHT = dt.time(2, 0)


@dataclass(frozen=True, slots=True)
class Request:
    """What one invocation asks for, settings apart.

    `snapshot_date` None means: finish what is unfinished, then today. `starting_token` is where the only slice begins.
    """

    snapshot_date: dt.date | None = None
    starting_token: str | None = None
    fresh: bool = False
    publish_partial: bool = False
    allow_fall: bool = False
    accept_model: bool = False


def run(settings: Settings, request: Request, stop: Stop) -> list[Outcome]:
    """Export: finish unfinished runs of the same request, then the run that was asked for. Returns their outcomes.

    Args:
        settings: flags of the command line merged in.
        request: the rest of what was asked for.
        stop: see there.

    Raises:
        LockedError: another run is at work on this state directory.
        StorageError: a directory cannot be written; found before the first request.
        EtlError: nothing new was published; says why.
    """
    today = dt.datetime.now(dt.UTC).date()
    target = request.snapshot_date or today
    if target > today and settings.source.endpoint_url != EMBEDDED:
        raise ConfigError(f"--snapshot-date: {target} is in the future; today is {today} (UTC)")
    with workplace(settings) as place:
        with _source(settings, target, stop) as source, _deadline(settings, stop):
            job = _Job(settings, request, source, stop, place)
            outcomes = [job.finish(ledger, target) for ledger in job.unfinished()]
            if not any(outcome.run.snapshot_date == target for outcome in outcomes):
                outcomes.append(job.work(job.begin(target)))
        remove_old_ledgers(settings.state_dir, settings.run.keep_ledgers, settings.run.max_checkpoint_age)
    return outcomes


class _Job:
    """One invocation: what it was asked for, and the steps that it takes a run through."""

    def __init__(
        self,
        settings: Settings,
        request: Request,
        source: Source,
        stop: Stop,
        place: Workplace,
    ) -> None:
        self._settings = settings
        self._request = request
        self._source = source
        self._plan = Plan.make(
            select_datasets([*settings.datasets, *settings.exported], settings.privacy.rules),
            [entry if isinstance(entry, str) else entry.name for entry in settings.exported],
            source.operation,
            settings.source,
            settings.privacy.secret,
        )
        self._walks = Walks(self._plan, source, settings.run, stop, request.starting_token)
        self._stop = stop
        self._place = place
        self._unsettled = list(place.unsettled)
        if request.starting_token and len(self._plan.published) != 1:
            names = ", ".join(sorted(self._plan.published))
            raise ConfigError(
                f"--starting-token: a token belongs to one slice of one dataset, and {names} are exported; "
                "name one with --dataset"
            )

    def begin(self, snapshot_date: dt.date) -> Ledger:
        """Return the ledger of a new run.

        Raises:
            ConfigError: a service model has changed so that readers of the tables would break.
        """
        for change in find_changes(ledger_paths(self._settings.state_dir), self._plan.datasets, self._plan.operations):
            if change.breaks_readers and not self._request.accept_model:
                raise ConfigError(
                    f"{change}. Readers of these columns would break: keep the former version of botocore, or go on "
                    "with --accept-model. A removed column then stays and is null; a table with a column of another "
                    "type must be moved away, and `replay --since` writes it anew"
                )
            log.warning("%s", change)
        run_id = f"{dt.datetime.now(dt.UTC):{RUN_ID_TIME}}-{secrets.token_hex(3)}"
        log.info("run %s begins, snapshot date %s", run_id, snapshot_date)
        path = self._settings.state_dir / "runs" / f"{run_id}.sqlite"
        return Ledger.create(path, run_id, snapshot_date, self._plan.fingerprint)

    def unfinished(self) -> Iterator[Ledger]:
        """Yield the ledgers of unfinished runs that this request goes on with, oldest first."""
        for path in ledger_paths(self._settings.state_dir):
            try:
                ledger = self._open_unfinished(path)
            except LedgerError as exc:
                if not self._request.fresh:
                    raise
                log.warning("%s. It is set aside", exc)
                set_aside(path)
                continue
            if ledger:
                yield ledger

    def finish(self, ledger: Ledger, target: dt.date) -> Outcome:
        """Take an unfinished run through its steps. That an older one cannot be published keeps no later night back."""
        run = ledger.run()
        try:
            return self.work(ledger)
        except UNPUBLISHABLE as exc:
            if run.snapshot_date == target:
                raise
            self._unsettled.append(exc)
            log.error("run %s, snapshot date %s: %s", run.run_id, run.snapshot_date, exc)  # noqa: TRY400  the operator's
            with Ledger.open(ledger.path) as left:
                return Outcome(left.run(), tuple(left.slices()), 0, failure=exc)

    def work(self, ledger: Ledger) -> Outcome:
        """Take a run through its steps, as far as they go now, and say how it stands."""
        began = time.monotonic()
        with ledger:
            self._walks.walk(ledger)
            publishing = True
            for name in self._plan.datasets:
                publishing = not self._stop.is_set() or self._stop.by_deadline
                if publishing and name in self._plan.published:
                    publish(
                        ledger,
                        self._place.tables,
                        self._plan.layouts[name],
                        limits=None if self._request.allow_fall else self._settings.publish,
                        partial=self._request.publish_partial,
                    )
            ledger.add_time(time.monotonic() - began)
            outcome = Outcome(ledger.run(), tuple(ledger.slices()), time.monotonic() - began, not publishing)
            if publishing and (outcome.finished or any(facts.publication for facts in outcome.slices)):
                publish_facts(self._place.tables, [(ledger, outcome)])
                reach("facts.published")
                if self._unsettled:
                    self._place.settle()  # a catalog would show half of what is not
                outcome = replace(outcome, failed_checks=self._place.show())
            if publishing and outcome.finished:
                ledger.close_run(RunState.FAILED if outcome.exit_code == 1 else RunState.PUBLISHED)
                reach("run.closed")
            return outcome

    def _open_unfinished(self, path: Path) -> Ledger | None:
        with ExitStack() as opened:
            ledger = opened.enter_context(Ledger.open(path))
            if self._goes_on_with(ledger):
                opened.pop_all()
                return ledger
        return None

    def _goes_on_with(self, ledger: Ledger) -> bool:
        run = ledger.run()
        if run.state is not RunState.OPEN or run.request != self._plan.fingerprint:
            return False
        if self._request.snapshot_date not in (None, run.snapshot_date):
            return False
        slices = ledger.slices()
        planned = {facts.slice.dataset for facts in slices}
        walked = planned >= self._plan.datasets.keys() and all(
            facts.state is not SliceState.WALKING for facts in slices
        )
        active_at = max((facts.observed_until for facts in slices if facts.observed_until), default=run.started_at)
        age = dt.datetime.now(dt.UTC) - active_at
        if self._request.fresh or self._request.starting_token:
            reason = "a new walk was asked for"
        elif age > self._settings.run.max_checkpoint_age and not walked:
            reason = f"its checkpoint is {age} old, run.max_checkpoint_age is {self._settings.run.max_checkpoint_age}"
        elif not walked and run.account_id not in (None, self._source.account_id):
            log.warning(
                "run %s lists account %s and is left, the credentials are those of %s",
                run.run_id, run.account_id, self._source.account_id,
            )  # fmt: skip
            return False
        else:
            log.info("run %s is resumed, snapshot date %s", run.run_id, run.snapshot_date)
            return True
        log.warning("run %s is abandoned: %s", run.run_id, reason)
        ledger.close_run(RunState.ABANDONED)
        return False


@contextmanager
def _source(settings: Settings, snapshot_date: dt.date, stop: Stop) -> Iterator[Source]:
    """Yield where pages come from; the embedded studio is started, at the night of the snapshot, and stopped again."""
    if settings.source.endpoint_url != EMBEDDED:
        yield Source(settings.source, Endpoint(settings.source.endpoint_url), stop)
        return
    try:
        # An extra: whoever exports from AWS needs no web server.
        from etl.emulator import EmbeddedStudio, StudioSettings, World  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        raise ConfigError(
            "source.endpoint_url is 'embedded', but the embedded studio is not installed; "
            "install nimble-etl[emulator], or set endpoint_url to null for AWS"
        ) from exc
    emulator = settings.emulator
    world = World(emulator.seed, emulator.studios, emulator.sessions_per_studio, region=settings.source.region)
    answers = StudioSettings(
        page_size=emulator.page_size,
        latency_s=emulator.latency_ms / 1000,
        # The world stands still at the night of the snapshot, so that a date's rows are the same on every run.
        instant=dt.datetime.combine(snapshot_date, _NIGHT, dt.UTC),
    )
    with EmbeddedStudio(world, answers) as studio:
        yield Source(settings.source, Endpoint(studio.endpoint_url, studio.credentials), stop)


@contextmanager
def _deadline(settings: Settings, stop: Stop) -> Iterator[None]:
    """Set `stop` when `run.max_duration` is over."""
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
