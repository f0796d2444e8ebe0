"""Delta tables, read: their files, their rows, and what the log says about the files."""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from etl.errors import WarehouseError
from etl.load.delta.log import LOG, delta_table, is_newest, look, said
from etl.load.delta.parquet import count_rows, read_batches
from etl.storage.disk import storage_errors
from etl.storage.store import Store

PARTITION = "snapshot_date"
CONFIGURATION = {"delta.dataSkippingNumIndexedCols": "-1"}
"""Makes the log count the nulls of every column of a file. Delta counts only those of the first 32 by default."""
_READER_VERSION, _WRITER_VERSION = 1, 2
"""Of the Delta protocol. Newer ones allow deleted rows and renamed columns, which a data file alone does not show."""
_EXPECTED = (
    f"expected reader version {_READER_VERSION}, writer version {_WRITER_VERSION} of the Delta protocol. "
    "Use a newer nimble-etl, or move the table away to begin a new one"
)

_MOVE = "move the table away; then `nimble-etl replay --since DATE` writes what ledgers have into a new one"


@dataclass(frozen=True, slots=True)
class Replacement:
    """The rows that a commit replaces: those of one date whose `column` has one of `values`."""

    snapshot_date: dt.date
    column: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the log says about a data file: its size in bytes, its rows, and the number of nulls in each column.

    `rows` is what the file says if the log does not say it. `nulls` is empty if the log does not have these numbers.
    """

    size: int
    rows: int
    nulls: dict[str, int]


@dataclass(frozen=True, slots=True)
class Committed:
    """One version of a table: its schema, and its data files (absolute names) by snapshot date.

    `facts` has an entry for each file if `Tables.read` was called with `with_facts`.
    """

    store: Store
    name: str
    version: int
    schema: pa.Schema
    files: dict[dt.date, list[str]]
    facts: dict[str, FileFacts] = field(default_factory=dict)

    def with_files(self, date: dt.date, files: Sequence[str]) -> "Committed":
        """Return the same table with other files of a date, which may not be committed yet."""
        return replace(self, files={**self.files, date: list(files)})


class Tables:
    """The Delta tables in one store.

    Tables stay open between calls: polling a log for new entries is far cheaper than reading it again. Whatever reads a
    table raises a WarehouseError if the table or a file is damaged or missing, or if a newer version has written it. It
    raises a StorageError if the store does not answer.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._opened: dict[str, DeltaTable] = {}
        self._read: dict[str, Committed] = {}
        self._frozen = False
        self._transactions: dict[tuple[str, int, str], int] = {}
        self._is_alone = False
        self._names: set[str] | None = None

    @contextmanager
    def alone(self, *, is_untouched: bool = False) -> Iterator[None]:
        """Inside the block, whose caller holds the lock, nobody else commits: a table is looked at once.

        With `is_untouched`, nobody has held the lock since the last such block. On a disk, a table is looked at each
        time: that costs nothing, and a file system may only seem to have locks.
        """
        if self.store.mirror and not is_untouched:
            self.store.mirror.forget()
            self._names = None
        self._is_alone = self.store.mirror is not None
        try:
            yield
        finally:
            self._is_alone = False

    def freeze(self) -> None:
        """From now on, show every table as it is at this moment. One that cannot be read raises when it is read."""
        for name in self.names():
            with suppress(WarehouseError):
                self.open(name)
        self._frozen = True

    def is_current(self) -> bool:
        """Tell whether no table that is open has a newer version."""
        for name in self._opened:
            look(self.store, name)
        return all(is_newest(self.store, name, found) for name, found in self._opened.items())

    def last_transaction(self, table: str, app_id: str) -> int:
        """Return the number of a writer's last commit to a table; 0 before the first."""
        found = self.open(table)
        try:
            return self.transaction_in(table, found, app_id) if found else 0
        except DeltaError as exc:
            raise WarehouseError(f"{self.store.at(table)}: its log is damaged: {said(exc)}; {_MOVE}") from exc

    def transaction_in(self, table: str, found: DeltaTable, app_id: str) -> int:
        """Return the number of a writer's last commit in the version of a table that was read; 0 before the first.

        deltalake reads the whole log for it each time.
        """
        key = (table, found.version(), app_id)
        if key not in self._transactions:
            self._transactions[key] = found.transaction_version(app_id) or 0
        return self._transactions[key]

    def versions(self) -> dict[str, int]:
        """Return the newest version of each table, by name."""
        found = {name: self.open(name) for name in self.names()}
        return {name: table.version() for name, table in found.items() if table}

    def read(self, table: str, *, with_facts: bool = False) -> Committed | None:
        """Return the newest version of a table; None if it was never committed to."""
        path = self.store.at(table)
        found = self.open(table)
        if found is None:
            return None
        known = self._read.get(table)
        if known is None or known.version != found.version() or (with_facts and not known.facts):
            files = {date: [f"{path}/{name}" for name in names] for date, names in data_files(found).items()}
            told = file_facts(self.store, table, found) if with_facts else ()
            facts = {f"{path}/{name}": one for name, one in told}
            known = Committed(self.store, table, found.version(), pa.schema(found.schema().to_arrow()), files, facts)
            self._read[table] = known
        return known

    def open(self, table: str) -> DeltaTable | None:
        """Return the newest version of a table as deltalake has it; None if it was never committed to."""
        found = self.take(table)
        if found is not None:
            self.give_back(table, found)
        return found

    def take(self, table: str) -> DeltaTable | None:
        """Return the newest version as `open` does, for this caller alone, who may commit to it."""
        found = self._opened.pop(table, None)
        if not self._frozen:
            with storage_errors(self.store.at(table)):
                look(self.store, table, again=not self._is_alone)
        try:
            if found is not None and not self._frozen and not is_newest(self.store, table, found):
                found.update_incremental()
        except DeltaError:
            found = None  # opening the table again below raises the error that tells what is wrong
        found = found or _open(self.store, table)
        if found is not None:
            _check_protocol(self.store.at(table), found)
            if self._names is not None:
                self._names.add(table)
        return found

    def give_back(self, table: str, found: DeltaTable) -> None:
        """Keep a table open for the next caller of `open` or `take`."""
        self._opened[table] = found

    def names(self) -> list[str]:
        """Return the names of all tables."""
        if self._names is None or not self._is_alone:
            self._names = {*self.store.folders_with(LOG)}
        return sorted(self._names)

    def dates(self, table: str) -> list[dt.date]:
        """Return the dates for which a table has rows, oldest first."""
        committed = self.read(table)
        return sorted(committed.files) if committed else []

    def files(self, table: str, snapshot_date: dt.date) -> list[str]:
        """Return the live data files of one date."""
        committed = self.read(table)
        return committed.files.get(snapshot_date, []) if committed else []

    def file_count(self, table: str) -> int:
        """Return the number of live data files."""
        committed = self.read(table)
        return sum(map(len, committed.files.values())) if committed else 0

    def rows(self, table: str, snapshot_date: dt.date, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return some columns of all rows of one date. Use it for small tables."""
        return [row for batch in self.batches(table, snapshot_date, columns) for row in batch.to_pylist()]

    def count(self, table: str, replacement: Replacement) -> dict[str, int]:
        """Read the committed rows of a replacement and count them, per value of its column."""
        counts = dict.fromkeys(replacement.values, 0)
        for batch in self.batches(table, replacement.snapshot_date, [replacement.column]):
            for entry in batch.column(0).value_counts().to_pylist():
                if entry["values"] in counts:
                    counts[entry["values"]] += entry["counts"]
        return counts

    def values(self, table: str, replacement: Replacement, column: str) -> set[Any]:
        """Return the values of a column in the committed rows of a replacement."""
        import pyarrow.compute as pc  # noqa: PLC0415  so that `status` is quick

        found: set[Any] = set()
        for batch in self.batches(table, replacement.snapshot_date, [replacement.column, column]):
            replaced = pc.is_in(batch.column(replacement.column), pa.array(replacement.values, pa.string()))
            found.update(pc.unique(batch.column(column).filter(replaced)).to_pylist())
        return found

    def batches(self, table: str, snapshot_date: dt.date, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield some columns of all rows of one date. Columns that a file does not have are left out."""
        for file in self.files(table, snapshot_date):
            yield from read_batches(self.store, file, columns)


def tells_nulls(table: DeltaTable) -> bool:
    """Tell whether the table logs null counts for every column."""
    return CONFIGURATION.items() <= table.metadata().configuration.items()


def _open(store: Store, table: str) -> DeltaTable | None:
    """Open a table; return None if it was never committed to."""
    path = store.at(table)
    try:
        return delta_table(store, table)
    except TableNotFoundError:
        return None
    except DeltaError as exc:
        raise WarehouseError(
            f"{path}: the table cannot be opened: {said(exc)}; {_EXPECTED}. After a power loss, run "
            "again: the run sets aside a commit that was written only in part"
        ) from exc
    except OSError as exc:
        raise WarehouseError(
            f"{path}: the table cannot be opened: {said(exc)}; repair the disk, then run again"
        ) from exc


def _check_protocol(path: str, table: DeltaTable) -> None:
    """Raise a WarehouseError if a table needs a newer version of nimble-etl."""
    found = table.protocol()
    if found.min_reader_version > _READER_VERSION or found.min_writer_version > _WRITER_VERSION:
        raise WarehouseError(
            f"{path}: the table has reader version {found.min_reader_version}, writer version "
            f"{found.min_writer_version}; {_EXPECTED}"
        )


def data_files(table: DeltaTable) -> dict[dt.date, list[str]]:
    """Return the live data files by date, relative to the table: `snapshot_date=…/….parquet`.

    Uses only the last two parts of each URI: deltalake percent-encodes the parts above, and not consistently.
    """
    files: dict[str, list[str]] = {}
    for uri in sorted(table.file_uris()):
        partition, name = uri.rsplit("/", 2)[1:]
        files.setdefault(partition, []).append(f"{partition}/{name}")
    try:
        return {_date_of(partition): names for partition, names in files.items()}
    except ValueError as exc:
        raise WarehouseError(f"{table.table_uri}: its log is damaged: {exc}; {_MOVE}") from exc


@cache
def _date_of(partition: str) -> dt.date:
    """Return the date of a directory of data files. A job asks for a thousand of them dozens of times."""
    return dt.date.fromisoformat(partition.removeprefix(f"{PARTITION}="))


def file_facts(store: Store, name: str, table: DeltaTable) -> Iterator[tuple[str, FileFacts]]:
    """Yield the live data files of a table of this name, as `data_files` does, with what the log says about them.

    Raises:
        WarehouseError: the log does not say how many rows a file has, and the file cannot be read.
    """
    actions = pa.table(table.get_add_actions(flatten=True))
    prefix = "null_count."
    told = [name for name in actions.schema.names if name.startswith(prefix)] if tells_nulls(table) else []
    columns = [name.removeprefix(prefix) for name in told]
    listed = [actions[name].to_pylist() for name in ("path", "size_bytes", *told)]
    # Statistics are optional in a log, and what damages them need not damage the rest of it.
    counted = actions["num_records"].to_pylist() if "num_records" in actions.schema.names else [None] * len(actions)
    for rows, (uri, size, *counts) in zip(counted, zip(*listed, strict=True), strict=True):
        file = "/".join(uri.rsplit("/", 2)[-2:])
        nulls = dict(zip(columns, counts, strict=True))
        if None in counts:
            nulls = {column: count for column, count in nulls.items() if count is not None}
        yield file, FileFacts(size, count_rows(store, store.at(name, file)) if rows is None else rows, nulls)
