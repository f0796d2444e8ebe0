"""Marts that are carried on from the former catalog, so that a night costs no more after a thousand others.

The header of such a mart says `Carried: slice_id, session_id`: its rows of one session follow from the changes of that
session alone. So the rows of a session without a new change are copied, and those of all others are made anew, from all
of their changes. That is right however many nights are new. Where a data file of the change log is gone, because a
night was published again or something was forgotten, all rows are made anew. So are they after a change of the mart,
of the types of the change log, or of DuckDB.

The table `etl_carried` says what the marts of a catalog were made of. It has a checksum of their rows: what another
program has written into a catalog is not carried on.
"""

import datetime as dt
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import duckdb
import pyarrow as pa

from etl.errors import StorageError, first_line
from etl.load.catalog.relations import add_table, described, names
from etl.load.delta.tables import Committed
from etl.model import CATALOG_NAME
from etl.sqlfiles import SqlFile, sql_files
from etl.sqltext import literal, quoted
from etl.storage.store import Store

log = logging.getLogger(__name__)

CARRIED = pa.schema(
    [
        described("mart", pa.string(), "mart that the next catalog may carry on"),
        described("made_by", pa.string(), "SHA-256 of its query, the types of what it reads, and DuckDB's version"),
        described("files", pa.list_(pa.string()), "names of the data files that its rows follow from"),
        described("checksum", pa.string(), "of its rows, in any order"),
    ]
)
_TABLE = "etl_carried"
_FORMER = "former"
"""What the former catalog is called while a new one is built."""


def former_catalog(store: Store) -> Path | None:
    """Return where the former catalog of a warehouse can be read; None if it cannot: then all is made anew."""
    path = store.at(CATALOG_NAME)
    try:
        return store.fetch(path) if store.exists(path) else None
    except (StorageError, OSError) as exc:  # such as no room for a copy of what is in a bucket
        log.debug("%s: no mart of it is carried on: %s", path, exc)
        return None


class Carried:
    """The marts of a new catalog that can be carried on, and what tells the next catalog so.

    Args:
        connection: to the new catalog, outside of a transaction.
        former: the former catalog; None if there is none, or nothing of it may be carried on.
        tables: those of the new catalog by name, read with facts.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, former: Path | None, tables: Mapping[str, Committed]
    ) -> None:
        self._connection = connection
        self._tables = tables
        self._marts = {name: file for name, file in sql_files("marts").items() if file.carried}
        self._made_by = {name: self._recipe(file) for name, file in self._marts.items()}
        self._former = self._look(former) if former else {}

    def query(self, file: SqlFile) -> str:
        """Return the query for all rows of a view or mart."""
        if file.name not in self._former:
            return file.text
        (source,), keys = file.reads, ", ".join(map(quoted, file.carried))
        dates = {date for date, files in self._files(file.name).items() if not files <= self._former[file.name]}
        new = f"snapshot_date in ({', '.join(f'date {literal(str(date))}' for date in sorted(dates))})"
        touched = f"select distinct {keys} from {quoted(source)} where {new if dates else 'false'}"  # noqa: S608
        self._connection.execute(f"create or replace temp table touched as {touched}")
        # Where a mart names it twice, DuckDB would materialize all of its columns, which takes twice as long.
        return (
            f"from {_FORMER}.main.{quoted(file.name)} anti join touched using ({keys}) union all by name"
            f" (with {quoted(source)} as not materialized (from main.{quoted(source)} semi join touched using ({keys}))"
            f" from (\n{file.text}\n))"
        )

    def note(self) -> None:
        """Add the table `etl_carried` to a catalog that has its marts."""
        rows = [
            {
                "mart": name,
                "made_by": self._made_by[name],
                "files": sorted(self._names(name)),
                "checksum": checksum(self._connection, f"main.{quoted(name)}"),
            }
            for name in sorted(self._marts.keys() & names(self._connection))
        ]
        add_table(self._connection, _TABLE, pa.Table.from_pylist(rows, schema=CARRIED))

    def _look(self, former: Path) -> dict[str, frozenset[str]]:
        """Attach the former catalog if some of its marts can be carried on. Return them and the data files they know.

        It is read by a database of its own first: a damaged file makes DuckDB refuse all that comes after it.
        """
        attach = f"attach {literal(str(former))} as {_FORMER} (read_only, type duckdb)"
        found = {}
        try:
            with duckdb.connect() as apart:
                apart.execute(attach)
                noted = apart.sql(f"from {_FORMER}.main.{_TABLE}").filter("files is not null")
                for name, made_by, files, digest in noted.select(*CARRIED.names).fetchall():
                    if (
                        made_by == self._made_by.get(name)
                        and self._names(name).issuperset(files)
                        and digest == checksum(apart, f"{_FORMER}.main.{quoted(name)}")
                    ):
                        found[name] = frozenset(files)
            if found:
                self._connection.execute(attach)
        except duckdb.Error as exc:  # a former version has made it, or whoever had it in hand: all is made anew
            log.debug("%s: no mart of it is carried on: %s", former, first_line(exc))
            return {}
        return found

    def _names(self, mart: str) -> frozenset[str]:
        """Return the names of all data files that a mart follows from. No name is given twice."""
        return frozenset().union(*self._files(mart).values())

    def _files(self, mart: str) -> dict[dt.date, frozenset[str]]:
        table = self._tables.get(self._marts[mart].reads[0])
        return {
            date: frozenset(name.rpartition("/")[2] for name in files)
            for date, files in (table.files.items() if table else ())
        }

    def _recipe(self, file: SqlFile) -> str:
        """Return a digest of all that a mart follows from, but for the rows that it reads."""
        table = self._tables.get(file.reads[0])
        types = [(field.name, str(field.type)) for field in table.schema] if table else []
        return _digest(duckdb.__version__, types, file.text)


def checksum(connection: duckdb.DuckDBPyConnection, relation: str) -> str:
    """Return a digest of the columns of a mart, of their types, and of its rows in any order."""
    rows = connection.sql(f"from {relation}")
    summed = rows.aggregate("count(*), sum(hash(*columns(*))::hugeint)").fetchall()
    return _digest(rows.columns, [str(kind) for kind in rows.types], summed)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
