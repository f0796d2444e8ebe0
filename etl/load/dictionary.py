"""The dictionary: every column of every table and view that readers see, in the table `etl_columns`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from etl.load.relations import Column, columns, comment_on, described, descriptions, quoted
from etl.sqlfiles import sql_files

COLUMNS = pa.schema(
    [
        described("schema_name", pa.string(), "main, or bi for the flat views"),
        described("table_name", pa.string(), "table or view"),
        described("column_name", pa.string(), "column"),
        described("position", pa.int32(), "place of the column, from 1"),
        described("data_type", pa.string(), "its type in DuckDB"),
        described("unit", pa.string(), "unit of its values; null if they have none"),
        described("meaning", pa.string(), "what it says"),
        described("api_path", pa.string(), "member of the API that it holds; null if it holds none"),
        described(
            "allowed_values", pa.list_(pa.string()), "values that the service model knows; null if it is no enumeration"
        ),
        described("is_sensitive", pa.bool_(), "whether the service model marks it sensitive"),
        described("null_rate", pa.float64(), "share of null among the rows, from 0 to 1; null without rows"),
        described("first_date", pa.date32(), "first snapshot date, or day, with a value; null where that is not kept"),
        described("last_date", pa.date32(), "last such date"),
    ]
)
_FIRST = ("valid_from", "snapshot_date", "day")
_LAST = ("seen_until", "snapshot_date", "day")
"""Columns with the date from which, and until which, a row tells something."""


def add_dictionary(connection: duckdb.DuckDBPyConnection, schemas: Mapping[str, pa.Schema]) -> None:
    """Add `etl_columns`, itself included.

    Args:
        connection: to the catalog, everything else in place.
        schemas: of the tables of the warehouse, with the facts of the service model in their fields.
    """
    facts = {
        (table, field.name): {key.decode(): text.decode() for key, text in (field.metadata or {}).items()}
        for table, schema in schemas.items()
        for field in schema
    }
    connection.register("dictionary_rows", COLUMNS.empty_table())
    connection.execute("create table etl_columns as from dictionary_rows")
    connection.unregister("dictionary_rows")
    comment_on(connection, "etl_columns", descriptions(COLUMNS))
    listed = columns(connection)
    rows = []
    for (schema_name, table), those in listed.items():
        own = table.removesuffix("_history").removesuffix("_versions")
        measured = _measure(connection, listed, own) if schema_name == "main" and own == table else {}
        for column in those:
            known = facts.get((table, column.name)) or facts.get((own, column.name)) or {}
            meaning, _, unit = column.comment.removesuffix("]").partition(" [")
            rows.append(
                {
                    "schema_name": schema_name,
                    "table_name": table,
                    "column_name": column.name,
                    "position": column.position,
                    "data_type": column.type,
                    "unit": known.get("unit") or unit or None,
                    "meaning": meaning,
                    "api_path": known.get("api_path"),
                    "allowed_values": json.loads(known["enum"]) if "enum" in known else None,
                    "is_sensitive": "sensitive" in known,
                    **measured.get(column.name, {}),
                }
            )
    connection.register("dictionary_rows", pa.Table.from_pylist(rows, schema=COLUMNS))
    connection.execute("insert into etl_columns from dictionary_rows")
    connection.unregister("dictionary_rows")


def _measure(
    connection: duckdb.DuckDBPyConnection, listed: Mapping[tuple[str, str], Sequence[Column]], table: str
) -> dict[str, dict[str, Any]]:
    """Return null rate, first and last date of each column: of marts, and of the newest snapshots of datasets.

    Dates of the latter come from their versions: to read every night of the history would take longer each night.
    """
    is_current = ("main", f"{table}_history") in listed
    if not is_current and table not in sql_files("marts"):
        return {}
    names = [column.name for column in listed["main", table]]
    rates = _aggregate(connection, table, [f"1 - count({quoted(name)}) / nullif(count(*), 0)" for name in names])
    found = {name: {"null_rate": rate} for name, rate in zip(names, rates, strict=True)}
    source = f"{table}_versions" if ("main", f"{table}_versions") in listed else table
    dated = {column.name for column in listed["main", source]}
    first, last = (next((name for name in when if name in dated), None) for when in (_FIRST, _LAST))
    if first and last:
        shared = [name for name in names if name in dated]
        spans = [
            f"{when} filter (where {quoted(name)} is not null)"
            for name in shared
            for when in (f"min({first})", f"max({last})")
        ]
        dates = iter(_aggregate(connection, source, spans))
        for name in shared:
            found[name] |= {"first_date": next(dates), "last_date": next(dates)}
    return found


def _aggregate(connection: duckdb.DuckDBPyConnection, relation: str, expressions: list[str]) -> tuple[Any, ...]:
    (row,) = connection.execute(f"select {', '.join(expressions)} from {quoted(relation)}").fetchall()  # noqa: S608
    return row
