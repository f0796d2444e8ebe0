"""A ledger as a SQLite file: made aside, opened with every write synced, its errors told apart."""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etl.errors import LedgerError, StorageError, first_line
from etl.storage.disk import put_in_place

_APPLICATION_ID = 0x4E65746C


class Database:
    """One file and one connection. Safe to use from several threads."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def create(cls, path: Path, version: int, schema: str, first: tuple[str, tuple[Any, ...]]) -> None:
        """Make a file with its tables and its first row. Whoever finds it under its name finds all of it.

        Raises:
            StorageError: it cannot be written.
        """
        draft = path.with_suffix(".new")
        with sqlite_errors(draft):
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.unlink(missing_ok=True)
            connection = sqlite3.connect(draft)
            connection.executescript(
                f"begin; pragma application_id={_APPLICATION_ID}; pragma user_version={version}; {schema}"
            )
            connection.execute(*first)
            connection.commit()
            connection.close()
            put_in_place(draft, path)

    @classmethod
    def open(cls, path: Path, version: int, upgrades: Mapping[int, Sequence[str]]) -> "Database":
        """Open a file that exists.

        Args:
            path: of the file.
            version: of the tables that the caller knows.
            upgrades: older version -> the statements that make the next one of it.

        Raises:
            LedgerError: it is no ledger, is damaged, or was written by a newer version.
        """
        with sqlite_errors(path):
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            if connection.execute("pragma application_id").fetchone()[0] != _APPLICATION_ID:
                raise LedgerError(f"{path}: is not a ledger of nimble-etl; move it away, or run with --fresh")
            found = connection.execute("pragma user_version").fetchone()[0]
            if found > version:
                raise LedgerError(
                    f"{path}: has format {found}; this version reads up to {version}. Use the newer nimble-etl"
                )
            connection.execute("pragma journal_mode=wal")
            connection.execute("pragma synchronous=full")
            connection.execute("pragma foreign_keys=on")
            if found < version:
                connection.execute("begin immediate")  # another process may be at it
                for older in range(connection.execute("pragma user_version").fetchone()[0], version):
                    for statement in upgrades[older]:
                        connection.execute(statement)
                connection.execute(f"pragma user_version={version}")
                connection.execute("commit")
        return cls(path, connection)

    def close(self) -> None:
        """Close the file; what was stored stays."""
        with self._lock:
            self._connection.close()

    def rows(self, statement: str, *values: object) -> list[sqlite3.Row]:
        """Return the answer to a query."""
        with self._lock, sqlite_errors(self.path):
            return self._connection.execute(statement, values).fetchall()

    def write(self, statement: str, *values: object) -> None:
        """Execute one statement, durably."""
        with self.transaction() as connection:
            connection.execute(statement, values)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection; what was executed is durable at the end, or never happened."""
        with self._lock, sqlite_errors(self.path):
            self._connection.execute("begin immediate")
            try:
                yield self._connection
                self._connection.execute("commit")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("rollback")


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into ours: a full disk is another matter than a torn file.

    SQLite has no checksums: a flipped bit can also show as a value that cannot be what was written.
    """
    try:
        yield
    except sqlite3.OperationalError as exc:
        name = getattr(exc, "sqlite_errorname", "")  # none if Python, not SQLite, could not read a value
        if not name or name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_SCHEMA")):
            raise LedgerError(f"{path}: {exc}; the ledger is damaged: run with --fresh") from exc
        raise StorageError.at(path, f"{exc} ({name})") from exc
    except OSError as exc:
        raise StorageError.at(path, exc.strerror or exc) from exc
    except (sqlite3.DatabaseError, ValueError, TypeError, IndexError) as exc:
        raise LedgerError(f"{path}: {first_line(exc)}; the ledger is damaged: run with --fresh") from exc
