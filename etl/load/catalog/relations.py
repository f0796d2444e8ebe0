"""Tables and views of a catalog, and what is said about their columns."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from operator import attrgetter

import duckdb
import pyarrow as pa

from etl.sqlfiles import Kind, SqlFile, sql_files
from etl.sqltext import literal, quoted


def names(connection: duckdb.DuckDBPyConnection, schema: str = "main") -> set[str]:
    """Return the tables and views of a schema."""
    found = connection.execute(
        "select table_name from information_schema.tables"
        " where table_catalog = current_database() and table_schema = ?",
        [schema],
    )
    return {name for (name,) in found.fetchall()}


def described(name: str, kind: pa.DataType, description: str) -> pa.Field:
    """Return an Arrow field that says what it is."""
    return pa.field(name, kind, metadata={"description": description})


def descriptions(schema: pa.Schema) -> dict[str, str]:
    """Return what Arrow fields say about themselves, by column."""
    return {field.name: (field.metadata or {}).get(b"description", b"").decode() for field in schema}


def column_types(connection: duckdb.DuckDBPyConnection, schema: pa.Schema) -> dict[str, str]:
    """Return the types that DuckDB has for the columns of an Arrow schema, as SQL writes them."""
    empty = connection.from_arrow(schema.empty_table())
    return dict(zip(empty.columns, map(str, empty.types), strict=True))


@dataclass(frozen=True, slots=True)
class CatalogColumn:
    """One column of a table or view, its type and comment as DuckDB has them; `position` counts from 1."""

    schema: str
    table: str
    name: str
    position: int
    type: str
    comment: str


def columns(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], list[CatalogColumn]]:
    """Return the columns of every table and view by schema and name, in their order. It costs a while: ask once."""
    found = connection.execute(
        "select schema_name, table_name, column_name, column_index, data_type, coalesce(comment, '')"
        " from duckdb_columns() where database_name = current_database() and not internal order by all"
    )
    listed: dict[tuple[str, str], list[CatalogColumn]] = {}
    for row in found.fetchall():
        listed.setdefault(row[:2], []).append(CatalogColumn(*row))
    return {place: sorted(those, key=attrgetter("position")) for place, those in listed.items()}


def comment_on(connection: duckdb.DuckDBPyConnection, relation: str, texts: Mapping[str, str]) -> None:
    """Say what the columns of a relation are; its name is given as SQL writes it."""
    statements = [f"comment on column {relation}.{quoted(column)} is {literal(text)}" for column, text in texts.items()]
    if statements:
        connection.execute("; ".join(statements))


def add_table(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    """Add a table with these rows, and what its fields say about its columns."""
    connection.register("given_rows", rows)
    connection.execute(f"create table {quoted(name)} as from given_rows")
    connection.unregister("given_rows")
    comment_on(connection, quoted(name), descriptions(rows.schema))


def add_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Add the macros of sql/, which marts and queries call. Views do not: they are read from other databases too."""
    for file in sql_files("macros").values():
        connection.execute(f"create macro {quoted(file.name)} {file.text}")


def add_files(
    connection: duckdb.DuckDBPyConnection, kinds: Collection[Kind], only: Collection[str] | None = None
) -> None:
    """Add the views and marts of sql/ that are not there yet and whose sources are; each after what it reads.

    Args:
        connection: to the catalog.
        kinds: views, marts.
        only: names; None for all.
    """
    files = [(kind, file) for kind in kinds for file in sql_files(kind).values() if only is None or file.name in only]
    there = names(connection)
    while ready := [(kind, file) for kind, file in files if file.name not in there and there.issuperset(file.reads)]:
        for kind, file in ready:
            what = "view" if kind == "views" else "table"
            connection.execute(f"create {what} {quoted(file.name)} as {file.text}")
            comment_on(connection, quoted(file.name), file.columns or _inherited(connection, file))
            there.add(file.name)


def _inherited(connection: duckdb.DuckDBPyConnection, file: SqlFile) -> dict[str, str]:
    """Return what is said about columns of the same name in what a file reads."""
    found = connection.execute(
        "select column_name, coalesce(max(comment), '') from duckdb_columns()"
        " where database_name = current_database() and schema_name = 'main' and list_contains(?, table_name)"
        " group by column_name having bool_or(table_name = ?)",
        [[*file.reads, file.name], file.name],
    )
    return dict(found.fetchall())
