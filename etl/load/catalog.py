"""The catalog: the DuckDB file that people connect to.

It is built aside, closed, synced and renamed over the old one. Readers that hold the old file keep it; nobody waits
for anybody, and nobody sees half a night. Its views name the exact committed data files, never a glob: a glob would
also read files that are staged or superseded.
"""

import fcntl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pyarrow as pa

from etl.errors import StorageError, WarehouseError
from etl.failpoints import reach
from etl.load.changes import CHANGE
from etl.load.tables import PARTITION, Committed, Tables, storage_errors, sync_directory, sync_file
from etl.sqlfiles import sql_files

FILE_NAME = "warehouse.duckdb"


def build_catalog(tables: Tables, known: Iterable[tuple[str, pa.Schema]]) -> Path:
    """Build the catalog of what is committed now, swap it in, and return its path.

    Args:
        tables: the warehouse.
        known: tables that exist for readers even before anything was committed to them.

    Raises:
        StorageError: the disk refused; the old catalog stays.
        WarehouseError: a committed data file is missing or damaged; the old catalog stays.
    """
    path = tables.path / FILE_NAME
    draft = path.with_name(f".{FILE_NAME}.new")
    with storage_errors(path):
        tables.path.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        try:
            with storage_errors(path):
                _remove(draft)
            _fill(draft, tables, dict(known))
            with storage_errors(path):
                sync_file(draft)
                reach("catalog.built")
                # A log left behind by another program would be replayed into the new file.
                Path(f"{path}.wal").unlink(missing_ok=True)
                draft.replace(path)
                sync_directory(tables.path)
        except BaseException as exc:
            with suppress(OSError):  # the disk that has just refused
                _remove(draft)
            if not isinstance(exc, duckdb.Error):
                raise
            reason = f"{str(exc).splitlines()[0]}; the old one stays"  # below it, DuckDB repeats the statement
            if draft.name in reason or isinstance(exc, duckdb.FatalException):  # the latter: a sync failed
                raise StorageError.at(path, reason) from exc
            raise WarehouseError(f"{path}: the catalog cannot be built: {reason}. Run `verify`") from exc
    reach("catalog.swapped")
    return path


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other job builds this catalog: the later one sees what the earlier one has committed."""
    with storage_errors(path), path.with_name(f".{FILE_NAME}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fill(draft: Path, tables: Tables, empty: Mapping[str, pa.Schema]) -> None:
    """Make a new DuckDB file, closed and without a log of its own."""
    with duckdb.connect(draft) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.begin()  # DuckDB syncs its log with every transaction
        for name in sorted({*tables.names(), *empty}):
            committed = tables.read(name)
            if committed or name in empty:  # neither: its first commit was killed half-way
                _add_table(connection, name, committed, empty.get(name))
        for file in sql_files("views").values():
            connection.execute(f"create view {_quoted(file.name)} as {file.text}")
        _add_current_views(connection)
        for name in tables.names():
            committed = tables.read(name)
            if committed and CHANGE in committed.schema.names:
                _add_versions(connection, name, committed.schema)
        for file in sql_files("marts").values():
            connection.execute(f"create table {_quoted(file.name)} as {file.text}")
        connection.commit()
        # Closing does the same, but is silent where the disk refuses: then nothing would be in the file.
        connection.execute("checkpoint")


def _add_table(
    connection: duckdb.DuckDBPyConnection, name: str, committed: Committed | None, known: pa.Schema | None
) -> None:
    """Add a table of the warehouse as a view on its files; rows of datasets under the name <table>_history."""
    schema = committed.schema if committed else known
    assert schema is not None
    relation = _quoted(_history(name) if _has_slices(name, schema) else name)
    files = [file for names in committed.files.values() for file in names] if committed else []
    connection.register("empty_table", pa.table(schema.empty_table()))
    if files:
        # A column that no file has yet: its table was widened, and nothing was committed to it since.
        source = (
            f"read_parquet([{', '.join(_literal(file) for file in files)}], union_by_name = true,"
            f" hive_partitioning = true, hive_types = {{'{PARTITION}': date}})"
        )
        present = {column for column, *_ in connection.execute(f"describe from {source}").fetchall()}
        columns = ", ".join(
            f"{_quoted(column) if column in present else 'null'}::{kind} as {_quoted(column)}"
            for column, kind, *_ in connection.execute("describe empty_table").fetchall()
        )
        connection.execute(f"create view {relation} as select {columns} from {source}")  # noqa: S608  quoted above
    else:
        connection.execute(f"create table {relation} as from empty_table")
    connection.unregister("empty_table")
    for column in schema:
        description = (column.metadata or {}).get(b"description", b"").decode()
        connection.execute(f"comment on column {relation}.{_quoted(column.name)} is {_literal(description)}")


def _add_current_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Add a view for each table of a dataset: the rows of the newest complete snapshot of each slice."""
    tables = connection.execute("select table_name from information_schema.tables where table_name like '%_history'")
    for (history,) in tables.fetchall():
        name = history.removesuffix("_history")
        connection.execute(
            f"create view {_quoted(name)} as select history.* from {_quoted(history)} as history"  # noqa: S608
            " semi join current_slices using (slice_id, snapshot_date)"
        )
        comments = connection.execute(
            "select column_name, comment from duckdb_columns() where table_name = ?", [history]
        )
        for column, comment in comments.fetchall():
            connection.execute(f"comment on column {_quoted(name)}.{_quoted(column)} is {_literal(comment or '')}")


def _add_versions(connection: duckdb.DuckDBPyConnection, log: str, schema: pa.Schema) -> None:
    """Add what follows from a change log: every version of every record, and macros for dates past."""
    facts = {field.name: field.metadata or {} for field in schema}
    dataset = facts[CHANGE][b"dataset"].decode()
    keys = ", ".join(_quoted(name) for name, known in facts.items() if b"key" in known)
    about_changes = (CHANGE, "changed_columns", "old_values", "previous_date")
    versions, next_date = _quoted(f"{dataset}_versions"), "next_date"
    # A record that vanished and appeared again has a gap between two versions.
    connection.execute(
        f"create view {versions} as"  # noqa: S608  quoted above
        f" select * exclude ({PARTITION}, {', '.join(about_changes)}, {next_date}), {PARTITION} as valid_from,"
        f" {next_date} as valid_to, {next_date} is null as is_current"
        f" from (select *, lead({PARTITION}) over (partition by slice_id, {keys} order by {PARTITION}) as {next_date}"
        f" from {_quoted(log)}) where {CHANGE} <> 'vanished'"
    )
    connection.execute(
        f"create macro {_quoted(f'{dataset}_as_of')}(instant) as table"  # noqa: S608
        f" select * from {versions} where valid_from <= (instant::timestamptz at time zone 'UTC')::date"
        " and (valid_to is null or valid_to > (instant::timestamptz at time zone 'UTC')::date)"
    )
    connection.execute(
        f"create macro {_quoted(f'{log}_between')}(from_date, to_date) as table"  # noqa: S608
        f" select * from {_quoted(log)} where {PARTITION} between from_date::date and to_date::date"
    )
    comments = {
        **{name: known.get(b"description", b"").decode() for name, known in facts.items() if name not in about_changes},
        "valid_from": "snapshot date from which the record was like this",
        "valid_to": "snapshot date from which it was different or gone; null if it still is like this",
        "is_current": "whether the newest complete snapshot has the record like this",
    }
    for column, text in comments.items():
        if column != PARTITION:
            connection.execute(f"comment on column {versions}.{_quoted(column)} is {_literal(text)}")


def _has_slices(name: str, schema: pa.Schema) -> bool:
    return not name.startswith("etl_") and "slice_id" in schema.names and CHANGE not in schema.names


def _history(name: str) -> str:
    return f"{name}_history"


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _remove(draft: Path) -> None:
    for leftover in (draft, Path(f"{draft}.wal")):
        leftover.unlink(missing_ok=True)
