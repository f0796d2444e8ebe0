"""The views on committed files: one for each table, and the views and macros on a change log."""

from collections.abc import Iterable

import duckdb

from etl.load.catalog.packs import Pack
from etl.load.catalog.relations import add_table, column_types, comment_on, descriptions
from etl.load.changes import CHANGE, key_of_log
from etl.load.delta.parquet import read_columns
from etl.load.delta.tables import PARTITION, Committed
from etl.sqltext import literal, quoted

_OFFSET = r":[0-9]{2}([.][0-9]+)? ?([zZ]|[+-][0-9]{2}(:?[0-9]{2})?)$"
"""How a text ends that says in which zone it is: 23:30:00-08:00, 02:00Z."""
_PACKS = "hive_partitioning = false"
_DATA_FILES = f"hive_partitioning = true, hive_types = {{'{PARTITION}': date}}"
"""How DuckDB reads them. A pack has the snapshot date in its rows, a data file in the name of its directory."""


def add_relation(  # noqa: PLR0913, PLR0917  one view, and the files behind it
    connection: duckdb.DuckDBPyConnection,
    name: str,
    table: Committed,
    files: Iterable[str],
    packs: Iterable[tuple[str, Pack]] = (),
    only: str = "",
) -> None:
    """Add a view on some files of a table, or an empty table if there are none. `only` ends each `select`.

    `packs` come with the files that they are in.

    Files are grouped by their columns, because older files lack the columns that were added later. The log tells which
    files have all of them, so these are not opened to find out, neither here nor by a query of the view.
    """
    groups: dict[tuple[str, frozenset[str]], list[str]] = {}
    for file, pack in packs:
        groups.setdefault((_PACKS, pack.columns), []).append(file)
    every = frozenset(table.schema.names) - {PARTITION}
    for file in files:
        known = frozenset(table.facts[file].nulls)
        if known and known != every:  # the file is older than some column, or the log is damaged: the file decides
            known = frozenset(read_columns(table.store, file))
        groups.setdefault((_DATA_FILES, known), []).append(file)
    if not groups:
        add_table(connection, name, table.schema.empty_table())
        return
    parts, types = [], column_types(connection, table.schema)
    for (options, known), group in groups.items():
        listed = ", ".join(map(literal, group))
        relation, present = f"read_parquet([{listed}], {options})", {PARTITION, *known}
        if not known:  # the log does not tell which columns these files have
            relation = f"read_parquet([{listed}], {options}, union_by_name = true)"
            present = {column for column, *_ in connection.execute(f"describe from {relation}").fetchall()}
        columns = ", ".join(
            f"{quoted(column) if column in present else 'null'}::{kind} as {quoted(column)}"
            for column, kind in types.items()
        )
        parts.append(f"select {columns} from {relation} {only}")  # noqa: S608  quoted
    connection.execute(f"create view {quoted(name)} as {' union all '.join(parts)}")
    comment_on(connection, quoted(name), descriptions(table.schema))


def _utc_date(name: str) -> str:
    """Return the expression for the UTC date of a macro's parameter, in any time zone of the session.

    A cast to TIMESTAMPTZ would read a date, a TIMESTAMP or a text without an offset in that time zone.
    """
    is_instant = f"typeof({name}) = 'TIMESTAMP WITH TIME ZONE' or regexp_matches({name}::varchar, '{_OFFSET}')"
    instant, local = f"{name}::timestamptz at time zone 'UTC'", f"{name}::timestamp"
    # DuckDB 1.1 to 1.3 know no if() in a macro.
    return f"(case when {is_instant} then {instant} else {local} end)::date"


def add_versions(connection: duckdb.DuckDBPyConnection, dataset: str, table: Committed) -> None:
    """Add the view of all versions of all records, and the macros for past dates, on a change log."""
    change_log = table.name
    keys = ", ".join(map(quoted, key_of_log(table.schema)))
    about_changes = (CHANGE, "changed_columns", "old_values", "previous_date")
    versions, next_date = quoted(f"{dataset}_versions"), "next_date"

    def query(changes: str, current: str) -> str:
        # A row that says vanished ends the version before it and is no version: a record that comes back has a gap.
        return (
            f"select versions.* exclude ({PARTITION}, {', '.join(about_changes)}, {next_date}, last_date),"  # noqa: S608
            f" versions.{PARTITION} as valid_from, {next_date} as valid_to,"
            f" coalesce(last_date, newest.{PARTITION}) as seen_until, {next_date} is null as is_current"
            f" from (select *, lead({PARTITION}) over record as {next_date}, lead(previous_date) over record as"
            f" last_date from {changes} window record as (partition by slice_id, {keys} order by {PARTITION}))"
            f" as versions left join {current} as newest using (slice_id) where {CHANGE} <> 'vanished'"
        )

    connection.execute(f"create view {versions} as {query(quoted(change_log), 'current_slices')}")
    # DuckDB looks up the names in a macro where it is called. A macro that names no other relation also works in a
    # catalog that is attached under another name.
    changes = f"({_definition(connection, table)}) as changes"
    past = query(changes, _newest_dates(connection, dataset))
    connection.execute(
        f"create macro {quoted(f'{dataset}_as_of')}(instant) as table"  # noqa: S608
        f" select * from ({past}) where valid_from <= {_utc_date('instant')}"
        f" and (valid_to is null or valid_to > {_utc_date('instant')})"
    )
    connection.execute(
        f"create macro {quoted(f'{change_log}_between')}(from_date, to_date) as table"  # noqa: S608
        f" select * from {changes} where {PARTITION} between {_utc_date('from_date')} and {_utc_date('to_date')}"
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


def _definition(connection: duckdb.DuckDBPyConnection, table: Committed) -> str:
    """Return the query of a table's view; for a table without rows, a query that finds none."""
    found = connection.execute(
        "select sql from duckdb_views() where view_name = ? and database_name = current_database()", [table.name]
    ).fetchone()
    if found:
        text: str = found[0]
        return text.partition(" AS ")[2].strip().rstrip(";")
    kinds = column_types(connection, table.schema).items()
    return f"select {', '.join(f'null::{kind} as {quoted(name)}' for name, kind in kinds)} where false"


def _newest_dates(connection: duckdb.DuckDBPyConnection, dataset: str) -> str:
    """Return the newest complete snapshot of each slice of a dataset as a relation of constants."""
    wanted = "select slice_id, snapshot_date from current_slices where dataset = ? order by all"
    rows = connection.execute(wanted, [dataset]).fetchall()
    values = ", ".join(f"({literal(name)}, date '{date}')" for name, date in rows) or "(null, null::date)"
    return f"(select * from (values {values}) as dates(slice_id, {PARTITION}))"  # noqa: S608  quoted
