"""Where a warehouse is, or copies of ledgers: what they ask of a disk, and of an object store.

The settings are `warehouse.path` and `run.keep_ledgers_at`.

Files have absolute names, which `Store.at` makes. A store raises OSError, whatever it is: a file that is missing is a
FileNotFoundError, a right that is missing a PermissionError.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import duckdb  # loaded by callers that have a connection

    from etl.storage.mirror import Mirror


@dataclass(frozen=True, slots=True)
class Taken:
    """How a lock was taken.

    Attributes:
        has_replaced: from a holder that seemed dead, but may wake up.
        is_untouched: nobody has held it since this process has let it go.
    """

    has_replaced: bool = False
    is_untouched: bool = False


class ConditionError(OSError):
    """A file was not written, because it is not as the caller has seen it: another writer was first."""


class Version(NamedTuple):
    """Which content a file has: two contents of it have different tags."""

    tag: str
    size_bytes: int


class Store(Protocol):
    """A place for the tables and the catalog of one warehouse.

    Attributes:
        uri: where it is: a directory, or `s3://bucket/prefix`.
        local: the directory, if the store is a disk. A disk must be told to keep what was written: see `storage.disk`.
    """

    uri: str

    @property
    def mirror(self) -> "Mirror | None":
        """Return the copies on this machine of what is in a bucket; None for a disk."""

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

    def versions(self) -> dict[str, Version]:
        """Return the files directly in the store: the last part of each name, and its version."""

    def send(self, file: Path, name: str, former: str | None) -> str:
        """Copy a file of this machine to a name, in the place of the version with the tag `former`; None: of no file.

        Durable when this returns the new tag.

        Raises:
            ConditionError: there is another version, or none; nothing has changed.
        """

    def receive(self, name: str, file: Path) -> str:
        """Copy a file of the store to this machine, over a file that may be there; return the tag of its version."""

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

    def locked(self, name: str, wait: dt.timedelta, stopped: Callable[[], bool]) -> AbstractContextManager[Taken]:
        """Hold the lock of this name; raises as `storage.locks.locked`."""

    def still_locked(self, *, is_new: bool = False) -> None:
        """Return if this process holds the lock, or holds none; else raise a StorageError.

        `is_new`: the table that is committed to has only its first entry.
        """

    def note(self, lock: str) -> bytes | None:
        """Return what the holder of a lock has noted, or has left as it died; None if nothing."""

    def note_of(self, lock: str) -> str:
        """Return the name of what has the note."""

    def set_note(self, lock: str, content: bytes | None) -> None:
        """Note something durably as the holder of a lock, or drop the note."""
