"""The views on committed files: a relation for each table, and what follows from a change log."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from etl.load.catalog.packs import Pack
from etl.load.catalog.relations import add_table, column_types, comment_on, descriptions
from etl.load.changes import CHANGE
from etl.load.delta.tables import PARTITION, Committed
from etl.sqltext import literal, quoted


def has_slices(table: Committed) -> bool:
    """Tell whether it is a table of a dataset: its rows belong to a snapshot, which may be the newest of its slice."""
    names = table.schema.names
    return not table.name.startswith("etl_") and "slice_id" in names and CHANGE not in names


@dataclass(frozen=True, slots=True)
class Alike:
    """Files that have the same columns; none: nobody knows which. Packs have the snapshot date in their rows."""

    files: Sequence[str]
    columns: Collection[str]
    are_packs: bool


def alike(table: Committed, files: Iterable[str], packs: Iterable[Pack] = ()) -> list[Alike]:
    """Return data files of a table, and packs that stand for others, by the columns that they have.

    A table that was widened has columns that older files lack. Where the log says which, no file is opened to find
    out, neither now nor each time that somebody queries a view.
    """
    found: dict[tuple[frozenset[str], bool], list[str]] = {}
    for pack in packs:
        found.setdefault((pack.columns, True), []).append(str(pack.path))
    for file in files:
        found.setdefault((frozenset(table.facts[file].nulls), False), []).append(file)
    return [Alike(some, columns, are_packs) for (columns, are_packs), some in found.items()]


def add_relation(
    connection: duckdb.DuckDBPyConnection, name: str, schema: pa.Schema, sources: Sequence[Alike], only: str = ""
) -> None:
    """Add a view on files, or an empty table where there are none."""
    if sources:
        types = column_types(connection, schema)
        parts = (f"{_select(connection, types, source)} {only}" for source in sources)
        connection.execute(f"create view {quoted(name)} as {' union all '.join(parts)}")
        comment_on(connection, quoted(name), descriptions(schema))
    else:
        add_table(connection, name, schema.empty_table())


def _select(connection: duckdb.DuckDBPyConnection, types: Mapping[str, str], source: Alike) -> str:
    """Return the query for all rows of some files, with the columns of their table."""
    options = "hive_partitioning = false"
    if not source.are_packs:
        options = f"hive_partitioning = true, hive_types = {{'{PARTITION}': date}}"
    listed = f"[{', '.join(map(literal, source.files))}]"
    relation, present = f"read_parquet({listed}, {options})", {PARTITION, *source.columns}
    if not source.columns:
        relation = f"read_parquet({listed}, {options}, union_by_name = true)"
        present = {column for column, *_ in connection.execute(f"describe from {relation}").fetchall()}
    columns = ", ".join(
        f"{quoted(column) if column in present else 'null'}::{kind} as {quoted(column)}"
        for column, kind in types.items()
    )
    return f"select {columns} from {relation}"  # noqa: S608  quoted


def _utc_date(name: str) -> str:
    """Return the expression for the UTC date of a macro's parameter, whatever the time zone of who asks.

    A date, a text or a TIMESTAMP would be cast to TIMESTAMPTZ as in that time zone.
    """
    zoned = f"typeof({name}) = 'TIMESTAMP WITH TIME ZONE'"
    return f"if({zoned}, {name}::timestamptz at time zone 'UTC', {name}::timestamp)::date"


def add_versions(connection: duckdb.DuckDBPyConnection, dataset: str, table: Committed) -> None:
    """Add what follows from a change log: every version of every record, and macros for dates past."""
    change_log = table.name
    keys = ", ".join(quoted(field.name) for field in table.schema if b"key" in (field.metadata or {}))
    about_changes = (CHANGE, "changed_columns", "old_values", "previous_date")
    versions, next_date = quoted(f"{dataset}_versions"), "next_date"
    # A record that vanished and appeared again has a gap between two versions.
    connection.execute(
        f"create view {versions} as"  # noqa: S608  quoted above
        f" select versions.* exclude ({PARTITION}, {', '.join(about_changes)}, {next_date}, last_date),"
        f" versions.{PARTITION} as valid_from, {next_date} as valid_to,"
        f" coalesce(last_date, newest.{PARTITION}) as seen_until, {next_date} is null as is_current"
        f" from (select *, lead({PARTITION}) over record as {next_date}, lead(previous_date) over record as last_date"
        f" from {quoted(change_log)} window record as (partition by slice_id, {keys} order by {PARTITION})) as versions"
        f" left join current_slices as newest using (slice_id)"
        f" where {CHANGE} <> 'vanished'"
    )
    connection.execute(
        f"create macro {quoted(f'{dataset}_as_of')}(instant) as table"  # noqa: S608
        f" select * from {versions} where valid_from <= {_utc_date('instant')}"
        f" and (valid_to is null or valid_to > {_utc_date('instant')})"
    )
    connection.execute(
        f"create macro {quoted(f'{change_log}_between')}(from_date, to_date) as table"  # noqa: S608
        f" select * from {quoted(change_log)}"
        f" where {PARTITION} between {_utc_date('from_date')} and {_utc_date('to_date')}"
    )
    comments = {
        **{name: text for name, text in descriptions(table.schema).items() if name not in about_changes},
        "valid_from": "snapshot date from which the record was like this",
        "valid_to": "snapshot date from which it was different or gone; null if it still is like this",
        "seen_until": "newest complete snapshot that shows the record like this",
        "is_current": "whether the newest complete snapshot has the record like this",
    }
    del comments[PARTITION]
    comment_on(connection, versions, comments)
