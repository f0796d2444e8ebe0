"""The data dictionary: the table `etl_columns`, with every column of every table and view that readers see."""

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from etl.load.catalog.relations import CatalogColumn, add_table, columns, described
from etl.load.changes import logged_dataset
from etl.load.delta.tables import PARTITION, Committed, FileFacts
from etl.sqlfiles import sql_files
from etl.sqltext import quoted

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
        described("first_date", pa.date32(), "first snapshot date, or day, with a value; null where that is not known"),
        described("last_date", pa.date32(), "last such date; of datasets among the daily partitions that are kept"),
    ]
)
_Measured = dict[str, dict[str, Any]]
"""Column -> those of null_rate, first_date and last_date that are known."""


def add_dictionary(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, Committed]) -> None:
    """Add the table `etl_columns`, which lists its own columns too, to a catalog that is complete otherwise.

    `tables` has the tables of the warehouse by name, read with facts. Unit, path and enum are metadata of their fields.
    """
    facts = {
        (table, field.name): {key.decode(): text.decode() for key, text in (field.metadata or {}).items()}
        for table, committed in tables.items()
        for field in committed.schema
    }
    add_table(connection, "etl_columns", COLUMNS.empty_table())
    listed, marts = columns(connection), sql_files("marts")
    rows = []
    for (schema_name, table), those in listed.items():
        own = table.removesuffix("_history").removesuffix("_versions")
        measured: _Measured = {}
        if schema_name == "main" and table in marts:
            measured = _measure_mart(connection, those)
        elif schema_name == "main" and ("main", f"{table}_history") in listed:
            measured = _measure_dataset(connection, those, tables)
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
    connection.from_arrow(pa.Table.from_pylist(rows, schema=COLUMNS)).insert_into("etl_columns")


def _measure_mart(connection: duckdb.DuckDBPyConnection, mart: Sequence[CatalogColumn]) -> _Measured:
    found = _null_rates(connection, mart)
    when = next((name for name in (PARTITION, "day") if name in found), None)
    if when:
        spans = [
            f"{bound}({when}) filter (where {quoted(name)} is not null)" for name in found for bound in ("min", "max")
        ]
        dates = iter(_aggregate(connection, mart[0].table, spans))
        for known in found.values():
            known |= {"first_date": next(dates), "last_date": next(dates)}
    return found


def _measure_dataset(
    connection: duckdb.DuckDBPyConnection, newest: Sequence[CatalogColumn], tables: Mapping[str, Committed]
) -> _Measured:
    """Return null rates of the newest snapshots, and dates from the logs: reading all rows would take too long."""
    found, table = _null_rates(connection, newest), tables[newest[0].table]
    change_logs = [other for other in tables.values() if logged_dataset(other.schema) == table.name]
    for name, known in found.items():
        # The change log still has what retention has removed from the table.
        firsts = [_date_with(name, kept, sorted(kept.files)) for kept in (table, *change_logs)]
        known["first_date"] = min(filter(None, firsts), default=None)
        known["last_date"] = _date_with(name, table, sorted(table.files, reverse=True))
    return found


def _date_with(column: str, table: Committed, dates: Iterable[dt.date]) -> dt.date | None:
    """Return the first of some dates on which a column of a table has a value."""

    def has_value(facts: FileFacts) -> bool:
        return column == PARTITION or facts.nulls.get(column, facts.rows) < facts.rows

    return next((date for date in dates if any(has_value(table.facts[file]) for file in table.files[date])), None)


def _null_rates(connection: duckdb.DuckDBPyConnection, relation: Sequence[CatalogColumn]) -> _Measured:
    expressions = [f"1 - count({quoted(column.name)}) / nullif(count(*), 0)" for column in relation]
    rates = _aggregate(connection, relation[0].table, expressions)
    return {column.name: {"null_rate": rate} for column, rate in zip(relation, rates, strict=True)}


def _aggregate(connection: duckdb.DuckDBPyConnection, relation: str, expressions: list[str]) -> tuple[Any, ...]:
    (row,) = connection.execute(f"select {', '.join(expressions)} from {quoted(relation)}").fetchall()  # noqa: S608
    return row
