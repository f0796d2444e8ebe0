"""Where a job works: a locked state directory, and a warehouse without half-finished publications.

Here every job begins, and here every run begins and ends.
"""

import datetime as dt
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from etl.config import Settings
from etl.errors import CommitConflictError, ConfigError, EtlError, LedgerError, StorageError, shortened
from etl.events import reach
from etl.extract.datasets import builtin_datasets, select_datasets
from etl.jobs.warehouse import copies_of, registry_of, segments_store_of, store_of
from etl.ledger.copies import Copies
from etl.ledger.directory import (
    forget_note,
    ledger_paths,
    lock,
    new_run_id,
    remove_ledger,
    remove_old_ledgers,
)
from etl.ledger.ledger import Ledger
from etl.load.catalog.build import Content, build_catalog
from etl.load.catalog.prices import PRICES, read_prices
from etl.load.delta.atomic import Change, all_or_nothing, alone
from etl.load.delta.sources import Filler, note_fillers, note_key
from etl.load.delta.tables import Tables
from etl.load.snapshots import unended_shards
from etl.model import WHOLE, Dataset, Operation, RunState, Shard
from etl.outcome import CheckResult, Outcome
from etl.pipeline.losses import find_losses
from etl.pipeline.plan import Plan
from etl.pipeline.publish import UNPUBLISHABLE, publish_facts
from etl.pipeline.settle import finish, settle
from etl.storage.disk import check_writable
from etl.transform.facts import ETL_TABLES

if TYPE_CHECKING:
    from etl.load.iceberg import Registry
    from etl.pipeline.forget_plan import Plan as ForgetPlan

log = logging.getLogger(__name__)

_SHOWN = 5
"""Losses that a log shows. `status` and `verify` list all."""


@dataclass(frozen=True, slots=True)
class Published:
    """How the slices of a run were published. `failure`: why some could not be. `interrupted`: a signal ended it."""

    failure: EtlError | None = None
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Workplace:
    """What every job works with.

    Attributes:
        settings: flags of the command line merged in.
        tables: those of the warehouse.
        content: what the catalog shows besides the committed tables.
        copies: those of the ledgers; None if none are kept.
        registry: the Iceberg tables of the warehouse; None if there are none.
        unsettled: why some half-finished publications cannot be finished.
        stopped: tells whether a signal has asked the job to end.
        lost: what was lost when the job began.
    """

    settings: Settings
    tables: Tables
    content: Content
    copies: Copies | None
    registry: "Registry | None"
    unsettled: list[EtlError]
    stopped: Callable[[], bool]
    lost: list[str] = field(default_factory=list)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock of the warehouse. Whoever commits or builds a catalog does so inside this block.

        What a dead job has left half committed is finished from its ledger if it is here, and otherwise put back.

        Raises:
            LockedError: another job has not let it go within `warehouse.lock_timeout`.
            StoppedError: a signal ended the wait for it.
        """
        ledgers, secret = ledger_paths(self.settings.state_dir), self.settings.privacy.secret
        with alone(
            self.tables,
            self.settings.warehouse.lock_timeout,
            self.stopped,
            lambda left: finish(left, ledgers, self.tables, secret),
        ):
            yield

    def fetch_ledgers(self) -> list[LedgerError]:
        """Fetch the ledgers of other machines, if copies are kept; return why some cannot be read.

        The caller holds the lock of the warehouse: nobody forgets something in a ledger meanwhile.

        Raises:
            StorageError: the store of the copies or the disk refused.
        """
        return self.copies.update(missing=True) if self.copies else []

    def remove_old_ledgers(self) -> None:
        """Delete ledgers that are older than `run.keep_ledgers`, and their copies.

        Raises:
            StorageError: the store of the copies or the disk refused.
        """
        run = self.settings.run
        remove_old_ledgers(self.settings.state_dir, run.keep_ledgers, run.max_checkpoint_age)
        if self.copies:
            self.copies.remove_old(run.keep_ledgers)

    def begin_run(
        self, what: str, snapshot_date: dt.date, request: str, state: RunState = RunState.OPEN, shard: Shard = WHOLE
    ) -> Ledger:
        """Return the ledger of a new run. `what` names it in the log; `request` is a digest of the whole request."""
        run_id = new_run_id()
        part = f", shard {shard.text}" if shard.text else ""
        log.info("run %s begins: %s, snapshot date %s%s", run_id, what, snapshot_date, part)
        path = self.settings.state_dir / "runs" / f"{run_id}.sqlite"
        return Ledger.create(path, run_id, snapshot_date, request, state, shard)

    def finish_run(
        self, ledger: Ledger, began: float, origin: str | None, publish: Callable[[Change], Published]
    ) -> Outcome:
        """Publish what a run has walked, all or nothing; build the catalog; close the run if nothing is left.

        If the run is a shard, the catalog is built only if all shards of the night have ended.

        `began` is when the work on it began, in seconds of `time.monotonic`. `origin` says where the pages come from.
        `publish` is called with the change that it is inside of.

        Raises:
            EtlError: as `alone` and `publish`; nothing of this run was published.
        """
        with self.alone():
            with all_or_nothing(self.tables) as change:
                published = publish(change)
                seconds = time.monotonic() - began
                ledger.add_time(seconds)
                outcome = Outcome(
                    ledger.run(), tuple(ledger.slices()), seconds, published.interrupted, failure=published.failure
                )
                has_news = outcome.finished or any(facts.publication is not None for facts in outcome.slices)
                if has_news:
                    publish_facts(self.tables, [(ledger, outcome)])
                    accounts = {facts.slice.account_id for facts in outcome.slices if facts.publication is not None}
                    if account_id := ledger.run().account_id:
                        note_fillers(self.tables, {Filler(origin, one) for one in accounts | {account_id}})
                    note_key(self.tables, self.settings.privacy.secret)
                    reach("facts.published")
            ledger.confirm()
            if has_news and not outcome.interrupted:
                if left := unended_shards(self.tables, outcome.run.snapshot_date, outcome.run.shard):
                    names = ", ".join(shortened(left))
                    log.info("the catalog stays as it is, and is built when the last shard ends; not ended: %s", names)
                else:
                    outcome = replace(outcome, failed_checks=self.show(self.lost))
        if outcome.finished:
            ledger.close_run(RunState.FAILED if outcome.exit_code == 1 else RunState.PUBLISHED)
            reach("run.closed")
        return outcome

    def show(self, lost: Sequence[str] = (), *, anew: bool = False) -> tuple[CheckResult, ...]:
        """Build the catalog of everything committed, and return the checks of severity *error* that fail.

        `lost` is what counts as missing besides what is missing now. With `anew`, no mart is carried on.

        Raises:
            StorageError: the disk refused; the old catalog stays.
            WarehouseError: a committed data file is missing or damaged; the old catalog stays.
        """
        content = replace(self.content, checks=[self._nothing_is_missing(lost)])
        failed = [check for check in build_catalog(self.tables, content, anew=anew) if check.failures]
        for check in failed:
            log.log(logging.ERROR if check.severity == "error" else logging.WARNING, "%s", check)
        return tuple(check for check in failed if check.severity == "error")

    def finish_forgetting(self) -> None:
        """Carry out what a killed `forget` has noted, if there is such a note.

        Raises:
            StorageError: the disk refused.
        """
        if not forget_note(self.settings.state_dir).exists():
            return
        from etl.pipeline.forget import noted  # noqa: PLC0415  few jobs need it

        try:
            if plan := noted(self.settings.state_dir):
                log.info("a killed `forget` is finished now")
                self.forget(plan)
        except (LedgerError, *UNPUBLISHABLE) as exc:
            log.error("what was to be forgotten is not forgotten yet: %s", exc)  # noqa: TRY400  the operator's
            self.unsettled.append(exc)

    def forget(self, plan: "ForgetPlan") -> tuple[CheckResult, ...]:
        """Carry out a plan that is noted, build the catalog, drop the note; return the checks that fail, as `show`.

        Copies of ledgers are part of it: no other machine may bring back what is forgotten.

        The caller holds the lock of the warehouse.

        Raises:
            EtlError: as `carry_out` and `show`; the next job goes on.
        """
        from etl.ledger.segments import remove_chains  # noqa: PLC0415  few jobs need it
        from etl.pipeline.forget import carry_out, drop_note  # noqa: PLC0415  few jobs need it

        settings = self.settings
        remove = self.copies.bury if self.copies else remove_ledger
        carry_out(plan, self.tables, ledger_paths(settings.state_dir), settings.privacy.secret, remove)
        failed = self.show()
        if self.copies and (behind := self.copies.put(settings.run.keep_ledgers)):
            raise CommitConflictError(
                f"{self.copies.store.at(behind[0])}: another machine has put this copy of a ledger there, and nothing "
                "is forgotten in it yet; run again: the next job goes on"
            )
        # They would bring back what is forgotten. A run that goes on asks for these pages again.
        ours = {path.stem for path in ledger_paths(settings.state_dir)}
        remove_chains(segments_store_of(settings), ours.__contains__)
        drop_note(settings.state_dir)
        return failed

    def _nothing_is_missing(self, lost: Sequence[str]) -> CheckResult:
        """Compare tables, facts and ledgers with each other."""
        now = map(str, find_losses(self.tables, ledger_paths(self.settings.state_dir)))
        found = list(dict.fromkeys([*map(str, self.unsettled), *lost, *now]))
        meaning = "Everything that ledgers and facts call published is in the tables."
        examples = json.dumps(found[:_SHOWN]) if found else None
        return CheckResult("nothing_is_missing", "error", meaning, len(found), examples)


@contextmanager
def workplace(settings: Settings, stopped: Callable[[], bool] = lambda: False) -> Iterator[Workplace]:
    """Yield the place of work: locked, proven to be writable, and settled as far as possible.

    Raises:
        ConfigError: the price table is not one, or the catalog of Iceberg is configured wrongly.
        LockedError: another job works on this state directory, or holds the lock of the warehouse for too long.
        StoppedError: `stopped` became true meanwhile.
        StorageError: a directory cannot be written; found before the first request. Or, when the job has done its
            work, a ledger could not be copied to `run.keep_ledgers_at`, or a table not be registered in Iceberg.
    """
    content = content_of(settings)
    with lock(settings.state_dir):
        check_writable(settings.state_dir / "runs", "state_dir")
        store = store_of(settings)
        store.check_writable()
        copies = copies_of(settings)
        if copies:
            copies.check_writable()
        registry = registry_of(settings)
        if registry:
            _check(registry)
        place = Workplace(settings, Tables(store), content, copies, registry, [], stopped)
        with place.alone():
            for failure in copies.update() if copies else ():
                log.error("%s", failure)
            ledgers = ledger_paths(settings.state_dir)
            place.unsettled[:] = settle(ledgers, place.tables, settings.privacy.secret)
            place.finish_forgetting()  # it may remove ledgers
            place.lost[:] = map(str, find_losses(place.tables, ledger_paths(settings.state_dir)))
            for loss in place.lost[:_SHOWN]:
                log.error("%s", loss)
        yield place
        if copies:
            copies.put(settings.run.keep_ledgers)
        if registry:
            with place.alone():
                registry.register(place.tables)


def _check(registry: "Registry") -> None:
    """Find what is wrong with the settings of a catalog. If it only does not answer now, the job begins all the same.

    Raises:
        ConfigError: it is configured wrongly.
    """
    try:
        registry.check()
    except StorageError as exc:
        log.warning("%s. It is asked again when this job has done its work", exc)


def content_of(settings: Settings) -> Content:
    """Return what the catalog shows besides the committed tables.

    Raises:
        ConfigError: the price table is not one.
    """
    return Content(
        known=ETL_TABLES,
        datasets={**builtin_datasets(), **select_datasets(settings.datasets, settings.privacy.rules)},
        pinned_tags=settings.bi.pinned_tags,
        prices=read_prices(settings.marts.prices) if settings.marts.prices else PRICES.empty_table(),
        with_marts=settings.marts.build,
    )


def plan_of(
    settings: Settings,
    describe: Callable[[Dataset], Operation],
    endpoint_of: Callable[[Dataset], str | None] = lambda _: None,
    shard: Shard = WHOLE,
) -> Plan:
    """Return the plan of what an invocation exports, as `Plan.make` says. Nothing is requested."""
    if not settings.exported:
        raise ConfigError("datasets: found an empty list; expected at least one dataset, such as streaming_sessions")
    return Plan.make(
        select_datasets([*settings.datasets, *settings.exported], settings.privacy.rules),
        [entry if isinstance(entry, str) else entry.name for entry in settings.exported],
        describe,
        settings.source,
        settings.privacy.secret,
        endpoint_of,
        shard,
    )
