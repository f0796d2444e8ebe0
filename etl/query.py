"""Read-only SQL on the catalog. It cannot write, attach, install, or read files outside the warehouse."""

from collections.abc import Mapping
from pathlib import Path

import duckdb
import pyarrow as pa

from etl.errors import ConfigError, WarehouseError
from etl.sqlfiles import SqlFile, sql_files


def ask(catalog: Path, statement: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
    """Return the answer to one SQL statement.

    Args:
        catalog: the DuckDB file.
        statement: one query; `$name` stands for a parameter.
        parameters: bound, never pasted into the text.

    Raises:
        WarehouseError: there is no catalog yet, or it cannot be read.
        ConfigError: the statement is not SQL, or asks for what is not allowed.
    """
    if not catalog.exists():
        raise WarehouseError(f"{catalog}: there is no catalog yet; `nimble-etl run` makes it")
    try:
        with duckdb.connect(catalog, read_only=True) as connection:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute("set allowed_directories = [?]", [f"{catalog.parent}/"])
            connection.execute("set enable_external_access = false")
            connection.execute("set lock_configuration = true")
            answer = connection.sql(statement, params=dict(parameters or {}))
            if answer is None:
                raise ConfigError("that statement has no answer; expected a query such as `from streaming_sessions`")
            return answer.to_arrow_table()
    except (duckdb.IOException, duckdb.FatalException, duckdb.InternalException) as exc:
        raise WarehouseError(f"{catalog}: {exc}; `nimble-etl verify` says what is damaged") from exc
    except duckdb.Error as exc:
        raise ConfigError(f"{exc}") from exc


def named_query(name: str) -> SqlFile:
    """Return a query of sql/queries by its name.

    Raises:
        ConfigError: there is none; names those that there are.
    """
    queries = sql_files("queries")
    if name not in queries:
        raise ConfigError(f"query {name!r} does not exist; there are {', '.join(queries)}")
    return queries[name]


def bind(query: SqlFile, given: Mapping[str, str]) -> dict[str, object]:
    """Return the typed values of a query's parameters: those given as text, defaults for the others.

    Raises:
        ConfigError: a parameter is unknown, or a value is not of its type.
    """
    unknown = given.keys() - {parameter.name for parameter in query.parameters}
    if unknown:
        known = ", ".join(f"--{p.name.replace('_', '-')} {p.type}" for p in query.parameters) or "none"
        raise ConfigError(f"query {query.name}: unknown parameter {', '.join(sorted(unknown))}; it takes {known}")
    values: dict[str, object] = {}
    with duckdb.connect() as connection:
        for parameter in query.parameters:
            text = given.get(parameter.name, parameter.default)
            try:
                row = connection.execute(f"select cast(? as {parameter.type})", [text]).fetchone()
            except duckdb.ConversionException:
                raise ConfigError(
                    f"query {query.name}: {parameter.name} is {text!r}; expected {parameter.type}"
                ) from None
            assert row is not None
            values[parameter.name] = row[0]
    return values
