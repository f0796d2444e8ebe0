"""Delta tables, read: which files a table has, what their rows are, what the log says of them."""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from etl.errors import WarehouseError
from etl.load.delta.log import is_newest, said, sync_log, table_paths
from etl.load.delta.parquet import read_batches, read_file

PARTITION = "snapshot_date"
CONFIGURATION = {"delta.dataSkippingNumIndexedCols": "-1"}
"""The log says of every column, not only of the first 32, how many values of a file are null."""
_READER_VERSION, _WRITER_VERSION = 1, 2
"""Of the Delta protocol. Above them a data file alone no longer says which rows it has, and by which names."""
_EXPECTED = (
    f"expected reader version {_READER_VERSION}, writer version {_WRITER_VERSION} of the Delta protocol. "
    "Use a newer nimble-etl, or move the table away to begin a new one"
)


@dataclass(frozen=True, slots=True)
class Replacement:
    """What a commit replaces: the rows of one date whose `column` is one of `values`."""

    snapshot_date: dt.date
    column: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the log says of a data file: its size in bytes, its rows, how many values of each of its columns are null.

    `nulls` is empty of files whose writer did not tell.
    """

    size: int
    rows: int
    nulls: dict[str, int]


@dataclass(frozen=True, slots=True)
class Committed:
    """A table as of one version: its schema and data files (absolute paths), by snapshot date.

    `facts` are those of every file, where `Tables.read` was asked for them.
    """

    name: str
    version: int
    schema: pa.Schema
    files: dict[dt.date, list[str]]
    facts: dict[str, FileFacts] = field(default_factory=dict)


class Tables:
    """The Delta tables below one directory.

    Tables stay open between calls: polling a log for new entries is far cheaper than reading it again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: dict[str, DeltaTable] = {}
        self._read: dict[str, Committed] = {}

    def is_committed(self, table: str, app_id: str, number: int) -> bool:
        """Tell whether a commit is in the log of a table, durably: who made it may have died before that."""
        found = self.open(table)
        if found is None or (found.transaction_version(app_id) or 0) < number:
            return False
        sync_log(self.path / table)
        return True

    def read(self, table: str, *, with_facts: bool = False) -> Committed | None:
        """Return the newest version of a table; None if it was never committed to."""
        path = self.path / table
        found = self.open(table)
        if found is None:
            return None
        known = self._read.get(table)
        if known is None or known.version != found.version() or (with_facts and not known.facts):
            files = {date: [f"{path}/{name}" for name in names] for date, names in data_files(found).items()}
            facts = {f"{path}/{name}": told for name, told in _file_facts(found)} if with_facts else {}
            known = Committed(table, found.version(), pa.schema(found.schema().to_arrow()), files, facts)
            self._read[table] = known
        return known

    def open(self, table: str) -> DeltaTable | None:
        """Return the newest version of a table; None if it was never committed to.

        Raises:
            WarehouseError: it is damaged, or a newer version has written it.
        """
        found = self.take(table)
        if found is not None:
            self.give_back(table, found)
        return found

    def take(self, table: str) -> DeltaTable | None:
        """Return the newest version of a table for the caller alone, who may change it; None as `open`.

        Raises:
            WarehouseError: as `open`.
        """
        found = self._opened.pop(table, None)
        try:
            if found is not None and not is_newest(self.path / table, found):
                found.update_incremental()
        except DeltaError:
            found = None  # what is wrong is said by whoever opens it
        found = found or _open(self.path / table)
        if found is not None:
            _check_protocol(self.path / table, found)
        return found

    def give_back(self, table: str, found: DeltaTable) -> None:
        """Keep a table for whoever asks next."""
        self._opened[table] = found

    def names(self) -> list[str]:
        """Return the names of all tables."""
        return [path.name for path in table_paths(self.path)]

    def dates(self, table: str) -> list[dt.date]:
        """Return the dates that a table has rows for, in order."""
        committed = self.read(table)
        return sorted(committed.files) if committed else []

    def file_count(self, table: str) -> int:
        """Return the number of live data files."""
        committed = self.read(table)
        return sum(map(len, committed.files.values())) if committed else 0

    def rows(self, table: str, snapshot_date: dt.date, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return some columns of the rows of one date; for small tables."""
        committed = self.read(table)
        files = committed.files.get(snapshot_date, []) if committed else []
        return [row for file in files for row in read_file(file, columns).to_pylist()]

    def count(self, table: str, replacement: Replacement) -> dict[str, int]:
        """Return the committed rows of a replacement, per value of its column, as the files have them.

        Raises:
            WarehouseError: a file of the table is missing or damaged.
        """
        committed = self.read(table)
        files = committed.files.get(replacement.snapshot_date, []) if committed else []
        counts = dict.fromkeys(replacement.values, 0)
        for file in files:
            for rows in read_batches(file, [replacement.column]):
                for entry in rows.column(0).value_counts().to_pylist():
                    if entry["values"] in counts:
                        counts[entry["values"]] += entry["counts"]
        return counts

    def values(self, table: str, replacement: Replacement, column: str) -> set[Any]:
        """Return the values of a column on the committed rows of a replacement.

        Raises:
            WarehouseError: a file of the table is missing or damaged.
        """
        committed = self.read(table)
        files = committed.files.get(replacement.snapshot_date, []) if committed else []
        found: set[Any] = set()
        for file in files:
            for rows in read_batches(file, [replacement.column, column]):
                replaced = pc.is_in(rows.column(replacement.column), pa.array(replacement.values, pa.string()))
                found.update(pc.unique(rows.column(column).filter(replaced)).to_pylist())
        return found


def tells_nulls(table: DeltaTable) -> bool:
    """Tell whether the log says of every column of a file how many values are null, as far as it was told."""
    return CONFIGURATION.items() <= table.metadata().configuration.items()


def _open(path: Path) -> DeltaTable | None:
    """Return a table; None if it was never committed to.

    Raises:
        WarehouseError: it is damaged.
    """
    try:
        return DeltaTable(path)
    except TableNotFoundError:
        return None
    except DeltaError as exc:
        raise WarehouseError(
            f"{path}: the table cannot be opened: {said(exc)}; {_EXPECTED}. After a power loss, run again: "
            "what it left of a commit is set aside"
        ) from exc


def _check_protocol(path: Path, table: DeltaTable) -> None:
    """Look whether this version may read and write a table.

    Raises:
        WarehouseError: a newer version has written it.
    """
    found = table.protocol()
    if found.min_reader_version > _READER_VERSION or found.min_writer_version > _WRITER_VERSION:
        raise WarehouseError(
            f"{path}: the table has reader version {found.min_reader_version}, writer version "
            f"{found.min_writer_version}; {_EXPECTED}"
        )


def data_files(table: DeltaTable) -> dict[dt.date, list[str]]:
    """Return the live data files by date, as the log names them: relative to the table, `snapshot_date=…/….parquet`.

    Only the last two parts of a URI are used: deltalake percent-encodes those above, and not consistently.
    """
    files: dict[dt.date, list[str]] = {}
    for uri in sorted(table.file_uris()):
        partition, name = uri.rsplit("/", 2)[1:]
        files.setdefault(dt.date.fromisoformat(partition.removeprefix(f"{PARTITION}=")), []).append(
            f"{partition}/{name}"
        )
    return files


def _file_facts(table: DeltaTable) -> Iterator[tuple[str, FileFacts]]:
    """Yield the live data files, named as by `_data_files`, and what the log says of them."""
    actions = pa.table(table.get_add_actions(flatten=True))
    prefix = "null_count."
    told = [name for name in actions.schema.names if name.startswith(prefix)] if tells_nulls(table) else []
    columns = [name.removeprefix(prefix) for name in told]
    listed = (actions[name].to_pylist() for name in ("path", "size_bytes", "num_records", *told))
    for path, size, rows, *counts in zip(*listed, strict=True):
        nulls = {name: count for name, count in zip(columns, counts, strict=True) if count is not None}
        yield "/".join(path.rsplit("/", 2)[-2:]), FileFacts(size, rows, nulls)
