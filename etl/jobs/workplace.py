"""Where a job works: a locked state directory, and a warehouse without half-finished publications.

Here every job begins, and here every run begins and ends.
"""

import datetime as dt
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from etl.config import Settings
from etl.errors import EtlError
from etl.events import reach
from etl.extract.datasets import builtin_datasets, select_datasets
from etl.ledger.directory import RUN_ID_TIME, ledger_paths, lock
from etl.ledger.ledger import Ledger
from etl.load.catalog.build import Content, build_catalog
from etl.load.catalog.prices import PRICES, read_prices
from etl.load.delta.log import mend
from etl.load.delta.tables import Tables
from etl.model import Dataset, Operation, RunState
from etl.outcome import CheckResult, Outcome
from etl.pipeline.plan import Plan
from etl.pipeline.publish import publish_facts
from etl.pipeline.settle import settle
from etl.storage.disk import check_writable
from etl.transform.facts import ETL_TABLES

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Workplace:
    """What every job works with.

    Attributes:
        settings: flags of the command line merged in.
        tables: those of the warehouse.
        content: what the catalog shows besides the committed tables.
        unsettled: why some half-finished publications cannot be finished. A job adds its own.
    """

    settings: Settings
    tables: Tables
    content: Content
    unsettled: list[EtlError]

    def check_settled(self) -> None:
        """Refuse to go on if the next catalog would show half of a publication.

        Raises:
            EtlError: the first reason.
        """
        if self.unsettled:
            raise self.unsettled[0]

    def settle(self) -> None:
        """Try again to finish publications that are half done: their tables may have been repaired.

        Raises:
            EtlError: the first reason why one of them cannot be finished.
        """
        if self.unsettled:
            secret = self.settings.privacy.secret
            self.unsettled[:] = settle(ledger_paths(self.settings.state_dir), self.tables, secret)
            self.check_settled()

    def begin_run(self, what: str, snapshot_date: dt.date, request: str, state: RunState = RunState.OPEN) -> Ledger:
        """Return the ledger of a new run. `what` names it in the log; `request` is a digest of the whole request."""
        run_id = f"{dt.datetime.now(dt.UTC):{RUN_ID_TIME}}-{secrets.token_hex(3)}"
        log.info("run %s begins: %s, snapshot date %s", run_id, what, snapshot_date)
        path = self.settings.state_dir / "runs" / f"{run_id}.sqlite"
        return Ledger.create(path, run_id, snapshot_date, request, state)

    def finish_run(self, ledger: Ledger, began: float, *, interrupted: bool = False) -> Outcome:
        """Publish the facts about a run, build the catalog, close the run if nothing is left, and return its outcome.

        `began` is when the work on it began, in seconds of `time.monotonic`. If the run is `interrupted` by a signal,
        only the working time is noted.
        """
        seconds = time.monotonic() - began
        ledger.add_time(seconds)
        outcome = Outcome(ledger.run(), tuple(ledger.slices()), seconds, interrupted)
        if not interrupted and (outcome.finished or any(facts.publication for facts in outcome.slices)):
            publish_facts(self.tables, [(ledger, outcome)])
            reach("facts.published")
            self.settle()  # otherwise the catalog would show half of a publication
            outcome = replace(outcome, failed_checks=self.show())
        if outcome.finished:
            ledger.close_run(RunState.FAILED if outcome.exit_code == 1 else RunState.PUBLISHED)
            reach("run.closed")
        return outcome

    def show(self) -> tuple[CheckResult, ...]:
        """Build the catalog of everything committed, and return the checks of severity *error* that fail.

        Raises:
            StorageError: the disk refused; the old catalog stays.
            WarehouseError: a committed data file is missing or damaged; the old catalog stays.
        """
        failed = [check for check in build_catalog(self.tables, self.content) if check.failures]
        for check in failed:
            log.log(logging.ERROR if check.severity == "error" else logging.WARNING, "%s", check)
        return tuple(check for check in failed if check.severity == "error")


@contextmanager
def workplace(settings: Settings) -> Iterator[Workplace]:
    """Yield the place of work: locked, proven to be writable, and settled as far as possible.

    Raises:
        ConfigError: the price table is not one.
        LockedError: another job works on this state directory.
        StorageError: a directory cannot be written; found before the first request.
    """
    content = content_of(settings)
    with lock(settings.state_dir):
        check_writable(settings.state_dir / "runs", "state_dir")
        check_writable(settings.warehouse.path, "warehouse.path")
        mend(settings.warehouse.path)
        tables = Tables(settings.warehouse.path)
        unsettled = settle(ledger_paths(settings.state_dir), tables, settings.privacy.secret)
        yield Workplace(settings, tables, content, unsettled)


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


def plan_of(settings: Settings, describe: Callable[[Dataset], Operation]) -> Plan:
    """Return the plan of what an invocation exports, as `Plan.make` says. Nothing is requested."""
    return Plan.make(
        select_datasets([*settings.datasets, *settings.exported], settings.privacy.rules),
        [entry if isinstance(entry, str) else entry.name for entry in settings.exported],
        describe,
        settings.source,
        settings.privacy.secret,
    )
