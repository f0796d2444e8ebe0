"""Where a job works: the state directory, which it has for itself, and a warehouse without half publications."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from etl.config import Settings
from etl.errors import EtlError
from etl.extract.datasets import builtin_datasets, select_datasets
from etl.ledger.directory import ledger_paths, lock
from etl.load.catalog.build import Content
from etl.load.catalog.prices import PRICES, read_prices
from etl.load.delta.log import mend
from etl.load.delta.tables import Tables
from etl.outcome import CheckResult
from etl.pipeline.settle import settle, settle_as_far_as_possible
from etl.pipeline.show import show
from etl.storage.disk import check_writable
from etl.transform.facts import ETL_TABLES


@dataclass(frozen=True, slots=True)
class Workplace:
    """What every job works with.

    Attributes:
        state_dir: has the ledgers.
        tables: those of the warehouse.
        content: what the catalog shows besides what is committed.
        secret: key of the hashes that privacy asks for.
        unsettled: why some publications that a killed process left half done stay so.
    """

    state_dir: Path
    tables: Tables
    content: Content
    secret: bytes | None
    unsettled: Sequence[EtlError]

    def check_settled(self) -> None:
        """Refuse to go on where the next catalog would show half of a publication.

        Raises:
            EtlError: the first reason.
        """
        if self.unsettled:
            raise self.unsettled[0]

    def settle(self) -> None:
        """Finish what is half published, after something was mended.

        Raises:
            EtlError: as `etl.pipeline.settle.settle` says.
        """
        settle(ledger_paths(self.state_dir), self.tables, self.secret)

    def show(self) -> tuple[CheckResult, ...]:
        """Show readers what is committed now; as `etl.pipeline.show.show` says."""
        return show(self.tables, self.content)


@contextmanager
def workplace(settings: Settings) -> Iterator[Workplace]:
    """Yield the place of work: locked, proven to be writable, and settled as far as possible.

    Raises:
        ConfigError: the price table is not one.
        LockedError: another job is at work on this state directory.
        StorageError: a directory cannot be written; found before the first request.
        EtlError: a publication that a killed process left half done cannot be finished, for another reason than its
            tables.
    """
    state_dir, warehouse, secret = settings.state_dir, settings.warehouse.path, settings.privacy.secret
    content = content_of(settings)
    with lock(state_dir):
        check_writable(state_dir / "runs", "state_dir")
        check_writable(warehouse, "warehouse.path")
        mend(warehouse)
        tables = Tables(warehouse)
        unsettled = settle_as_far_as_possible(ledger_paths(state_dir), tables, secret)
        yield Workplace(state_dir, tables, content, secret, unsettled)


def content_of(settings: Settings) -> Content:
    """Return what the catalog shows besides what is committed.

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
