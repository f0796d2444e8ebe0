"""What became of the records of one slice, counted."""

from collections.abc import Callable
from dataclasses import dataclass, field

from etl.errors import WarehouseError
from etl.model import SliceFacts
from etl.transform.batches import Flat


@dataclass(slots=True)
class Counts:
    """What became of the records of one slice.

    `tables` has the number of rows of each table. `ambiguous` says how many of the rejects have the key of another
    record, with an example; it is empty if none have.
    """

    rows: int = 0
    rejects: int = 0
    duplicates: int = 0
    ambiguous: str = ""
    drift: set[str] = field(default_factory=set)
    tables: dict[str, int] = field(default_factory=dict)

    def check(self, facts: SliceFacts) -> None:
        """Compare the counts with what the ledger knows about the slice.

        Raises:
            WarehouseError: a record became neither a row, nor a reject, nor a duplicate.
        """
        if self.rows + self.rejects + self.duplicates != facts.records:
            raise WarehouseError(
                f"{facts.slice}: {facts.records} records became {self.rows} rows, {self.rejects} rejects and "
                f"{self.duplicates} duplicates; nothing was committed"
            )


def count(flat: Flat, dataset: str, counts_of: Callable[[str], Counts]) -> None:
    """Add some records of a dataset to the counts of their slices, which `counts_of` returns by slice id."""
    for slice_id, table, rows in flat.counts():
        counts = counts_of(slice_id)
        counts.tables[table] = counts.tables.get(table, 0) + rows
        counts.rows = counts.tables.get(dataset, 0)
        counts.rejects = counts.tables.get("etl_rejects", 0)
    for slice_id, drift in flat.drifts.items():
        counts_of(slice_id).drift |= drift
