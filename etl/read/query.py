"""Read-only SQL on the catalog. It cannot write, attach, install, or read files outside the warehouse.

DuckDB's own settings keep it inside the warehouse directory. Inside that directory it could still write: COPY works
even on a database that is opened read-only, as a statement, in a WITH clause, or as JSON. Therefore each statement is
parsed first, and it is refused unless every part of it is a query.
"""

import errno
import json
import os
import re
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from etl.errors import ConfigError, DeniedError, WarehouseError, did_you_mean, shortened
from etl.model import CATALOG_NAME
from etl.sqlfiles import SqlFile, sql_files
from etl.storage.disk import storage_errors
from etl.storage.store import Store

if TYPE_CHECKING:
    import pyarrow as pa  # loaded only by callers that want Arrow tables

_QUERY_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_TABLE_FUNCTIONS = re.compile(
    r"(read_|parquet_|duckdb_|pragma_|json_each|json_tree).*|range|generate_series|unnest|repeat|glob|query_table"
    r"|histogram|histogram_values|summary|\w+_as_of|\w+_changes_between"
)
"""Table functions that only read, including the catalog's macros. Others change settings, write logs, or run SQL that
is hidden in a string."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """An open catalog. All its answers show the same night, even if another night is published meanwhile."""

    connection: duckdb.DuckDBPyConnection

    def ask(self, statement: str, parameters: Mapping[str, object] | None = None) -> "pa.Table":
        """Return the answer to one SQL statement. Repeated column names get a number: a, a_1.

        Args:
            statement: one query; `$name` stands for a parameter.
            parameters: values by name. They are bound, never pasted into the text.

        Raises:
            ConfigError: the statement is not valid SQL, or it is not allowed.
        """
        answer = self._answer(statement, parameters).to_arrow_table()
        names: list[str] = []
        for name in answer.column_names:
            taken = {former.lower() for former in names}
            candidates = (name, *(f"{name}_{i}" for i in range(1, answer.num_columns + 1)))
            names.append(next(candidate for candidate in candidates if candidate.lower() not in taken))
        return answer.rename_columns(names)

    def rows(self, statement: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """Return the same answer as Python values. Instants must be cast to text: DuckDB needs pytz to convert them."""
        answer = self._answer(statement, parameters)
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.fetchall()]

    def _answer(self, statement: str, parameters: Mapping[str, object] | None) -> duckdb.DuckDBPyRelation:
        _check_is_query(self.connection, statement)
        answer = self.connection.sql(statement, params=dict(parameters or {}))
        if answer is None:
            raise ConfigError("the statement returns no rows; expected a query such as `from streaming_sessions`")
        return answer


def ask(store: Store, statement: str, parameters: Mapping[str, object] | None = None) -> "pa.Table":
    """Open the catalog of a warehouse and return the answer to one SQL statement; see `open_catalog`, `Catalog.ask`."""
    with open_catalog(store) as opened:
        return opened.ask(statement, parameters)


@contextmanager
def open_catalog(store: Store) -> Iterator[Catalog]:
    """Yield the catalog of a warehouse. Inside the block, DuckDB's errors become errors of this package.

    Raises:
        WarehouseError: there is no catalog yet, or it cannot be read.
        StorageError: the store refused.
        ConfigError: DuckDB rejects a statement.
    """
    catalog = store.at(CATALOG_NAME)
    with storage_errors(catalog):
        path = store.fetch(catalog) if store.exists(catalog) else None
    if path is None:
        if store.local and store.local.exists() and not store.local.is_dir():
            raise DeniedError.at(store.local, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
        if store.folders_with("_delta_log"):
            raise WarehouseError(f"{catalog}: the catalog is gone; `nimble-etl catalog` builds it")
        raise WarehouseError(f"{catalog}: there is no catalog yet; `nimble-etl run` makes it")
    try:
        with duckdb.connect(path, read_only=True) as connection:
            connection.execute("set TimeZone = 'UTC'")
            store.connect(connection)
            connection.execute("set allowed_directories = [?]", [store.at("")])
            connection.execute("set enable_external_access = false")
            connection.execute("set lock_configuration = true")
            yield Catalog(connection)
    except (duckdb.IOException, duckdb.FatalException, duckdb.InternalException) as exc:
        raise WarehouseError(f"{catalog}: {exc}; {_remedy(catalog, str(exc))}") from exc
    except duckdb.PermissionException as exc:
        if "snapshot_date=" in str(exc) or "/.packs/" in str(exc):
            raise WarehouseError(
                f"{catalog}: names files outside of {store.uri}: was the warehouse moved? "
                "`nimble-etl catalog` builds it anew"
            ) from exc
        raise ConfigError(f"{exc}; expected a query that reads nothing but the warehouse") from exc
    except duckdb.Error as exc:
        if type(exc) is duckdb.Error:  # of no class: what is read is damaged, and no statement is to blame
            raise WarehouseError(f"{catalog}: {exc}; {_remedy(catalog, str(exc))}") from exc
        raise ConfigError(f"{exc}") from exc


def _remedy(catalog: str, why: str) -> str:
    """Return what to do about a catalog that cannot be opened or read."""
    left = Path(f"{catalog}.wal")
    if re.search(r"\block\b", why):
        return "another program has it open for writing: end that program, or connect it with read_only"
    if left.exists():
        return f"another program has written into it and left {left.name}: `nimble-etl catalog` builds a new one"
    if "Corrupt database" in why or (CATALOG_NAME in why and ".parquet" not in why):
        return "`nimble-etl catalog` builds it anew"
    return "`nimble-etl verify` says what is damaged"


def _check_is_query(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Raise a ConfigError unless the statement is exactly one query."""
    expected = "expected one query, such as `from streaming_sessions`"
    try:
        statements = connection.extract_statements(statement)
    except TypeError:  # a lone surrogate
        raise ConfigError(f"found text that is not UTF-8; {expected}") from None
    if len(statements) != 1:
        raise ConfigError(f"found {len(statements)} statements; {expected}")
    # EXPLAIN ANALYZE executes its statement, so that statement is checked.
    text = re.sub(r"^\s*explain\s*(analyze\b|\([^)]*\))?", "", statements[0].query, flags=re.IGNORECASE)
    ((parsed,),) = connection.execute("select json_serialize_sql(?::varchar)", [text]).fetchall()
    tree = json.loads(parsed)
    if tree["error"]:
        # For statements that are no queries, DuckDB's message speaks about JSON. It would confuse the reader.
        problem = "" if tree["error_type"] == "not implemented" else f": {tree['error_message']}"
        try:
            kind = statements[0].type.name
        except ValueError:  # DuckDB 2.0 parses some kinds that its Python package cannot name: UPDATE EXTENSIONS
            kind = "a statement of another kind"
        raise ConfigError(f"found {kind}{problem}; {expected}")
    for node in _nodes(tree):
        kind = str(node.get("type"))
        if kind.endswith("_NODE") and kind not in _QUERY_NODES:
            raise ConfigError(f"found {kind.removesuffix('_NODE')} inside a query; {expected}")
        if kind == "TABLE_FUNCTION":
            name = str(node["function"].get("function_name"))
            if not _TABLE_FUNCTIONS.fullmatch(name.lower()):
                raise ConfigError(f"found the table function {name}, which does not only read; {expected}")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a JSON value."""
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    for inner in tree if isinstance(tree, list) else ():
        yield from _nodes(inner)


def named_query(name: str) -> SqlFile:
    """Return a query of sql/queries.

    Raises:
        ConfigError: no query has this name; the message lists the names that exist.
    """
    queries = sql_files("queries")
    if name not in queries:
        meant = did_you_mean(name, queries)
        raise ConfigError(f"query {name!r} does not exist{meant}; there are {', '.join(queries)}")
    return queries[name]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a named query, and what to say about it: that it is empty, or that a value is unknown."""

    rows: "pa.Table"
    notes: tuple[str, ...]


def answer(store: Store, query: SqlFile, values: Mapping[str, object]) -> Answer:
    """Return the answer of a catalog to a named query; see `bind` for the values.

    Raises:
        ConfigError: the warehouse has not what the query reads.
        WarehouseError, StorageError: as `open_catalog`.
    """
    with open_catalog(store) as opened:
        there = set(opened.ask("select table_name from information_schema.tables").column(0).to_pylist())
        if missing := [name for name in query.reads if name not in there]:
            raise ConfigError(
                f"query {query.name}: reads {', '.join(missing)}, and this warehouse has no such table; is the dataset "
                "exported (`nimble-etl datasets`), and is marts.build true?"
            )
        rows = opened.ask(query.text, values)
        return Answer(rows, (*([] if rows.num_rows else ["no rows"]), *_unknown_values(opened, query, values, there)))


def _unknown_values(
    opened: Catalog, query: SqlFile, values: Mapping[str, object], there: Container[str]
) -> Iterator[str]:
    """Yield a sentence for each value that is none of those of its parameter."""
    for parameter in query.parameters:
        table, _, column = (parameter.one_of or "").partition(".")
        if table not in there:
            continue
        statement = f"select distinct {column} from {table} where {column} is not null order by 1"  # noqa: S608  of a header
        known = opened.ask(statement)
        given, names = values[parameter.name], list(map(str, known.column(0).to_pylist()))
        if given not in names:
            found = f"{parameter.flag} {given}: is no {column} of {table}{did_you_mean(given, names)}"
            yield f"{found}; there are {', '.join(shortened(names, 5))}"


def bind(query: SqlFile, given: Mapping[str, str]) -> dict[str, object]:
    """Return a typed value for each parameter of a query: the given text, or else the default, cast to its type.

    Raises:
        ConfigError: a given parameter is unknown, or a value does not fit its type or is too small.
    """
    unknown = given.keys() - {parameter.name for parameter in query.parameters}
    if unknown:
        known = ", ".join(f"{parameter.flag} {parameter.type}" for parameter in query.parameters) or "none"
        raise ConfigError(f"query {query.name}: unknown parameter {', '.join(sorted(unknown))}; it takes {known}")
    values: dict[str, object] = {}
    with duckdb.connect() as connection:
        for parameter in query.parameters:
            text = given.get(parameter.name, parameter.default)
            try:
                row = connection.execute(f"select cast(? as {parameter.type})", [text]).fetchone()
                if row and type(row[0]) is int:
                    int(text)  # DuckDB rounds 12.5
            except (duckdb.ConversionException, duckdb.InvalidInputException, ValueError):
                place = f"query {query.name}: {parameter.name}"
                raise ConfigError(f"{place} is {text!r}; expected {parameter.type}") from None
            assert row is not None
            if parameter.least is not None and row[0] < int(parameter.least):
                raise ConfigError(
                    f"query {query.name}: {parameter.name} is {text}; expected at least {parameter.least}"
                )
            values[parameter.name] = row[0]
    return values
