"""A ledger as a SQLite file. It is written under another name first, and every write to it is synced."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from etl.errors import LedgerError, StorageError, first_line
from etl.storage.disk import open_own, put_in_place, storage_errors

_APPLICATION_ID = 0x4E65746C
_AT_ONCE = 1000
"""Rows that are read under the lock before others may have it."""
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_SCHEMA")


class Database:
    """One file and one connection. Safe to use from several threads."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def create(cls, path: Path, version: int, schema: str, insert: str, *values: object) -> None:
        """Make a file with its tables and the row that `insert` writes. A file under this name is always whole."""
        draft = path.with_suffix(".new")
        with sqlite_errors(draft):
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.unlink(missing_ok=True)
            os.close(open_own(draft, os.O_RDWR | os.O_EXCL))  # SQLite gives its log files the same mode
            connection = sqlite3.connect(draft)
            connection.executescript(
                f"begin; pragma application_id={_APPLICATION_ID}; pragma user_version={version}; {schema}"
            )
            connection.execute(insert, values)
            connection.commit()
            connection.close()
            put_in_place(draft, path)

    @classmethod
    def temporary(cls, path: Path, schema: str, insert: str, *values: object) -> "Database":
        """Return a new database that nobody else can open, and that ends with its process, even if it is killed.

        SQLite writes it to a nameless file among the temporary ones once it outgrows its cache, and never syncs it.
        `path` names it in messages. Source: https://www.sqlite.org/inmemorydb.html, "Temporary Databases".
        """
        with sqlite_errors(path):
            connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            connection.executescript(schema)
            connection.execute(insert, values)
        return cls(path, connection)

    @classmethod
    def open(cls, path: Path, version: int, upgrades: Mapping[int, Sequence[str]]) -> "Database":
        """Open a file that exists, and upgrade it to `version`, the version of the tables that the caller knows.

        `upgrades` maps each older version to the statements that turn it into the next one.
        """
        with sqlite_errors(path):
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            if connection.execute("pragma application_id").fetchone()[0] != _APPLICATION_ID:
                raise LedgerError(f"{path}: this is not a ledger of nimble-etl; move it away, or run with --fresh")
            found = connection.execute("pragma user_version").fetchone()[0]
            if found > version:
                raise LedgerError(
                    f"{path}: has format {found}; this version reads up to {version}. Use a newer nimble-etl"
                )
            connection.executescript(
                "pragma journal_mode=wal; pragma synchronous=full; pragma foreign_keys=on; pragma secure_delete=on"
            )
            if found < version:
                path.chmod(0o600)
                connection.execute("begin immediate")  # another process may upgrade it at the same time
                for older in range(connection.execute("pragma user_version").fetchone()[0], version):
                    for statement in upgrades[older]:
                        connection.execute(statement)
                connection.execute(f"pragma user_version={version}")
                connection.execute("commit")
        return cls(path, connection)

    def copy_to(self, path: Path) -> None:
        """Write everything as one file, without a write-ahead log, into an empty file. It is not synced."""
        with self._lock, sqlite_errors(path):
            self._connection.execute("vacuum into ?", (str(path),))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def rows(self, statement: str, *values: object) -> list[sqlite3.Row]:
        """Return the rows that a query finds."""
        with self._lock, sqlite_errors(self.path):
            return self._connection.execute(statement, values).fetchall()

    def each(self, statement: str, *values: object) -> Iterator[sqlite3.Row]:
        """Yield the rows that a query finds, without having all of them in memory. Others may write meanwhile."""
        with self._lock, sqlite_errors(self.path):
            cursor = self._connection.execute(statement, values)
        while True:
            with self._lock, sqlite_errors(self.path):
                found = cursor.fetchmany(_AT_ONCE)
            if not found:
                return
            yield from found

    def write(self, statement: str, *values: object) -> None:
        """Execute one statement in a synced transaction."""
        with self.transaction() as connection:
            connection.execute(statement, values)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection. At the end, everything executed on it is durable, or none of it is."""
        with self._lock, sqlite_errors(self.path):
            self._connection.execute("begin immediate")
            try:
                yield self._connection
                self._connection.execute("commit")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("rollback")


@contextmanager
def sqlite_errors(path: Path | str) -> Iterator[None]:
    """Tell a disk that refuses (StorageError) from a damaged file (LedgerError).

    SQLite has no checksums. A flipped bit can therefore also appear as a value that nobody wrote: hence `ValueError`,
    `TypeError` and `IndexError`.
    """
    try:
        with storage_errors(path):
            yield
    except (sqlite3.DatabaseError, ValueError, TypeError, IndexError) as exc:
        name = getattr(exc, "sqlite_errorname", "")  # empty if Python, not SQLite, could not read a value
        if name.startswith("SQLITE_READONLY") and all(os.access(place, os.W_OK) for place in (path, Path(path).parent)):
            # SQLite opens a file only to read if opening it to write fails for whatever reason.
            raise StorageError.at(path, f"the system refused to open it for writing ({name})") from exc
        if isinstance(exc, sqlite3.OperationalError) and name and not name.startswith(_DAMAGE):
            raise StorageError.at(path, f"{exc} ({name})") from exc
        raise LedgerError(f"{path}: {first_line(exc)}; the ledger is damaged: run with --fresh") from exc
