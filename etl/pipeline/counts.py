"""What became of the records of one slice, counted."""

from dataclasses import dataclass, field

from etl.errors import WarehouseError
from etl.model import SliceFacts
from etl.transform.batches import Flat


@dataclass
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

    def add(self, flat: Flat, dataset: str) -> None:
        """Count some records as well."""
        for table, rows in {**flat.tables, "etl_rejects": flat.rejects}.items():
            self.tables[table] = self.tables.get(table, 0) + rows.num_rows
        self.rows = self.tables[dataset]
        self.rejects = self.tables["etl_rejects"]
        self.drift |= flat.drift

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
