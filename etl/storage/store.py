"""Where a warehouse is: what it asks of a disk, and of an object store. The setting is `warehouse.path`.

Files have absolute names, which `Store.at` makes. A store raises OSError, whatever it is: a file that is missing is a
FileNotFoundError, a right that is missing a PermissionError.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import duckdb  # loaded by callers that have a connection


class Store(Protocol):
    """A place for the tables and the catalog of one warehouse.

    Attributes:
        uri: where it is: a directory, or `s3://bucket/prefix`.
        local: the directory, if the store is a disk. A disk must be told to keep what was written: see `storage.disk`.
    """

    uri: str

    @property
    def local(self) -> Path | None:
        """Return the directory of a disk, otherwise None."""

    def at(self, *names: str) -> str:
        """Return the name of what is below the store."""

    def delta_options(self) -> dict[str, str] | None:
        """Return what deltalake needs to open tables here."""

    def folders_with(self, name: str) -> list[str]:
        """Return the names of the folders directly in the store that have a folder of this name, sorted."""

    def exists(self, name: str) -> bool:
        """Tell whether a file is there."""

    def sizes(self, names: Iterable[str]) -> Iterator[tuple[str, int | None]]:
        """Yield files with their sizes in bytes; None for one that is missing."""

    def listed(self, folder: str) -> dict[str, int]:
        """Return the files below a folder, however deep, with their sizes in bytes."""

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if it is missing."""

    def fetch(self, name: str) -> Path:
        """Return where on this machine the present content of a file can be read, for programs that need a path."""

    def draft(self, name: str) -> Path:
        """Return where on this machine a file is written before `keep` or `swap`. Its directory exists."""

    def keep(self, draft: Path, name: str) -> None:
        """Give a finished draft its name, which no file has had before. It is durable; names of a disk are not yet."""

    def swap(self, draft: Path, name: str, made_of: Mapping[str, int]) -> None:
        """Give a finished draft its name, in the place of an older file. Durable when this returns.

        `made_of` has the versions of the tables in it: it does not replace a file that is made of newer ones.
        """

    def remove(self, name: str) -> None:
        """Remove a file if it is there. It stays away."""

    def discard(self, names: Iterable[str]) -> None:
        """Remove files. Failures are ignored: the next run tries again, and an earlier error matters more."""

    def opened(self, name: str) -> "str | IO[bytes]":
        """Return what pyarrow can read a file from."""

    def connect(self, connection: "duckdb.DuckDBPyConnection") -> None:
        """Let a connection read files of the store."""

    def check_writable(self) -> None:
        """Refuse a store that a job cannot use, before its first request.

        Raises:
            DeniedError: it cannot be written, or it does not keep a promise that commits need.
            StorageError: it does not work now.
        """

    def locked(self, name: str, wait: dt.timedelta, stopped: Callable[[], bool]) -> AbstractContextManager[bool]:
        """Hold the lock of this name; raises as `storage.locks.locked`.

        The value tells whether it was taken from a holder that seemed dead, but may wake up.
        """

    def still_locked(self) -> None:
        """Return if this process holds the lock, or holds none; else raise a StorageError."""

    def note(self, lock: str) -> bytes | None:
        """Return what the holder of a lock has noted, or has left as it died; None if nothing."""

    def note_of(self, lock: str) -> str:
        """Return the name of what has the note."""

    def set_note(self, lock: str, content: bytes | None) -> None:
        """Note something durably as the holder of a lock, or drop the note."""
