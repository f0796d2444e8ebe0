"""Objects of a warehouse as DuckDB reads them: a file system that can read, and nothing else."""

import datetime as dt
import os
import threading
from typing import IO, Any

from fsspec import AbstractFileSystem

from etl.storage.objects import ObjectStore


class ReadOnly(AbstractFileSystem):  # type: ignore[misc]
    """A file system of the objects below one prefix. DuckDB's COPY into it fails: whatever would write is refused."""

    protocol = "s3"
    cachable = False

    def __init__(self, store: ObjectStore) -> None:
        super().__init__()
        self._store = store

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def _open(self, path: str, mode: str = "rb", **_: Any) -> "_Handle":
        if mode != "rb":
            raise PermissionError(f"{path}: a warehouse is only read here")
        return _Handle(self._store, path)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return the size of an object."""
        size = self._store.known_sizes.get(path)
        if size is None:
            ((_name, size),) = self._store.sizes([path])
        if size is None:
            raise FileNotFoundError(path)
        return {"name": path, "size": size, "type": "file"}

    def modified(self, _path: str) -> dt.datetime:
        """Return one instant for all objects: none of them ever changes."""
        return dt.datetime.fromtimestamp(0, dt.UTC)

    def ls(self, path: str, **_: Any) -> list[Any]:
        """Refuse to list: views name every file."""
        raise PermissionError(f"{path}: a warehouse is not listed here")


class _Handle:
    """An open object. Threads of DuckDB share it, and each first seeks and then reads: each has a place of its own."""

    closed = False

    def __init__(self, store: ObjectStore, path: str) -> None:
        self._store = store
        self._path = path
        self._own = threading.local()

    @property
    def _file(self) -> IO[bytes]:
        if not hasattr(self._own, "file"):
            self._own.file = self._store.opened(self._path)
        file: IO[bytes] = self._own.file
        return file

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, for this thread."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place of this thread."""
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        """Read from the place of this thread."""
        return self._file.read(size)

    def close(self) -> None:
        """Drop what is held for this thread; the others drop theirs as they end."""
        self._own = threading.local()
