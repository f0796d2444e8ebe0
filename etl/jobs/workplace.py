"""Where a job works: the state directory, which it has for itself, and a warehouse without half publications."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from etl.config import Settings
from etl.errors import EtlError
from etl.ledger.directory import lock
from etl.load.delta.tables import Tables
from etl.pipeline.publish import settle_as_far_as_possible
from etl.storage.disk import check_writable


@dataclass(frozen=True, slots=True)
class Workplace:
    """The tables of the warehouse, and why some publications that killed processes left half done stay so."""

    tables: Tables
    unsettled: Sequence[EtlError]

    def check_settled(self) -> None:
        """Refuse to go on where the next catalog would show half of a publication.

        Raises:
            EtlError: the first reason.
        """
        if self.unsettled:
            raise self.unsettled[0]


@contextmanager
def workplace(settings: Settings) -> Iterator[Workplace]:
    """Yield the place of work: locked, proven to be writable, and settled as far as possible.

    Raises:
        LockedError: another job is at work on this state directory.
        StorageError: a directory cannot be written; found before the first request.
        EtlError: a publication that a killed process left half done cannot be finished, for another reason than its
            tables.
    """
    with lock(settings):
        check_writable(settings.state_dir / "runs", "state_dir")
        check_writable(settings.warehouse.path, "warehouse.path")
        tables = Tables(settings.warehouse.path)
        tables.mend()
        yield Workplace(tables, settle_as_far_as_possible(settings, tables))
