"""Tables and views of a catalog, and the comments on their columns."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from etl.sqlfiles import Kind, SqlFile, sql_files
from etl.sqltext import literal, quoted


def names(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Return the names of the tables and views in the schema `main`."""
    found = connection.execute(
        "select table_name from information_schema.tables"
        " where table_catalog = current_database() and table_schema = 'main'"
    )
    return {name for (name,) in found.fetchall()}


def described(name: str, kind: pa.DataType, description: str) -> pa.Field:
    """Return an Arrow field with a description in its metadata."""
    return pa.field(name, kind, metadata={"description": description})


def descriptions(schema: pa.Schema) -> dict[str, str]:
    """Return column -> description, from the metadata of the fields."""
    return {field.name: (field.metadata or {}).get(b"description", b"").decode() for field in schema}


def column_types(connection: duckdb.DuckDBPyConnection, schema: pa.Schema) -> dict[str, str]:
    """Return column -> DuckDB type, as SQL writes it, for an Arrow schema."""
    empty = connection.from_arrow(schema.empty_table())
    return dict(zip(empty.columns, map(str, empty.types), strict=True))


@dataclass(frozen=True, slots=True)
class CatalogColumn:
    """One column of a table or view, with DuckDB's type and comment. `position` counts from 1."""

    schema: str
    table: str
    name: str
    position: int
    type: str
    comment: str


def columns(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], list[CatalogColumn]]:
    """Return (schema, table or view) -> its columns in order. The query is slow, so call this once."""
    found = connection.execute(
        "select schema_name, table_name, column_name, column_index, data_type, coalesce(comment, '')"
        " from duckdb_columns() where database_name = current_database() and not internal order by 1, 2, 4"
    )
    listed: dict[tuple[str, str], list[CatalogColumn]] = {}
    for row in found.fetchall():
        listed.setdefault(row[:2], []).append(CatalogColumn(*row))
    return listed


def comment_on(connection: duckdb.DuckDBPyConnection, relation: str, texts: Mapping[str, str]) -> None:
    """Set the comments of columns. `relation` is the name of a table or view as SQL writes it."""
    statements = [f"comment on column {relation}.{quoted(column)} is {literal(text)}" for column, text in texts.items()]
    if statements:
        connection.execute("; ".join(statements))


def add_table(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    """Add a table with these rows. The descriptions of the fields become its comments."""
    connection.register("given_rows", rows)
    connection.execute(f"create table {quoted(name)} as from given_rows")
    connection.unregister("given_rows")
    comment_on(connection, quoted(name), descriptions(rows.schema))


def add_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Add the macros of sql/ for marts and queries. Views cannot use them: other databases read the views too."""
    for file in sql_files("macros").values():
        connection.execute(f"create macro {quoted(file.name)} {file.text}")


def add_files(
    connection: duckdb.DuckDBPyConnection,
    kinds: Collection[Kind],
    only: Collection[str] | None = None,
    query: Callable[[SqlFile], str] = lambda file: file.text,
) -> None:
    """Add views and marts of sql/ that do not exist yet, each after the tables and views that it reads.

    A file is left out if something that it reads does not exist. `only` names the files to add; None adds all. `query`
    gives the statement whose rows a file has.
    """
    files = [(kind, file) for kind in kinds for file in sql_files(kind).values() if only is None or file.name in only]
    there = names(connection)
    while ready := [(kind, file) for kind, file in files if file.name not in there and there.issuperset(file.reads)]:
        for kind, file in ready:
            what = "view" if kind == "views" else "table"
            connection.execute(f"create {what} {quoted(file.name)} as {query(file)}")
            comment_on(connection, quoted(file.name), file.columns or _inherited(connection, file))
            there.add(file.name)


def _inherited(connection: duckdb.DuckDBPyConnection, file: SqlFile) -> dict[str, str]:
    """Return the comments on columns of the same name in the tables and views that a file reads."""
    found = connection.execute(
        "select column_name, coalesce(max(comment), '') from duckdb_columns()"
        " where database_name = current_database() and schema_name = 'main' and list_contains(?, table_name)"
        " group by column_name having bool_or(table_name = ?)",
        [[*file.reads, file.name], file.name],
    )
    return dict(found.fetchall())


def read_once(connection: duckdb.DuckDBPyConnection) -> None:
    """Bind and run every view of the catalog once, without reading rows. DuckDB proves a view only when it is read.

    Raises:
        duckdb.Error: a view cannot be read.
    """
    found = connection.execute(
        "select schema_name, view_name from duckdb_views() where database_name = current_database() and not internal"
    )
    for schema, name in found.fetchall():
        connection.execute(f"from {quoted(schema)}.{quoted(name)} limit 0")
