"""The promises of a local disk: a name, or the content of a file, is durable after it was synced.

No other room calls fsync or renames a file into its place.
"""

import datetime as dt
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from etl.errors import DeniedError, StorageError
from etl.storage.store import ConditionError, Taken, Version

if TYPE_CHECKING:
    import duckdb  # loaded by callers that have a connection


@contextmanager
def storage_errors(path: Path | str) -> Iterator[None]:
    """Turn an error of the operating system, or of a store, into a StorageError that names `path`."""
    try:
        yield
    except OSError as exc:
        raise StorageError.at(path, exc) from exc


def make_directory(path: Path, mode: int = 0o777) -> None:
    """Make a directory and its missing parents. Their names are on the disk when this returns.

    A new directory has the `mode`, less the umask; its parents have the usual one.
    """
    if not path.parent.is_dir():
        make_directory(path.parent)
    path.mkdir(mode, exist_ok=True)
    with suppress(PermissionError):  # we may not open the parent, so we cannot sync its entries
        sync_directory(path.parent)


def open_own(path: Path, flags: int) -> int:
    """Return a descriptor of a file that is made, if it is missing, for its owner alone.

    A symbolic link in its place is an error: the file that it leads to may be somebody else's.
    """
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def check_writable(path: Path, setting: str) -> None:
    """Make a directory if it is missing, and write a file into it. `setting` is its name in the configuration.

    Raises:
        StorageError: the directory cannot be made or written.
    """
    probe = path / ".probe"
    try:
        make_directory(path)
        os.close(open_own(probe, os.O_WRONLY))
        probe.unlink(missing_ok=True)
    except OSError as exc:
        raise not_writable(path, setting, exc) from exc


def check_links(path: Path, setting: str) -> None:
    """Refuse a directory whose file system has no hard links: a log entry gets its name by one, or not at all.

    Raises:
        DeniedError: it has none.
    """
    first, second = path / ".probe", path / ".probe-link"
    try:
        os.close(open_own(first, os.O_WRONLY))
        second.unlink(missing_ok=True)
        os.link(first, second)
    except OSError as exc:
        if exc.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}:
            raise not_writable(path, setting, exc) from exc
        then = f"{setting} must be on a file system that has hard links, such as ext4, xfs or NFS"
        raise DeniedError.at(path, exc, then) from exc
    finally:
        remove_files([first, second])


def not_writable(path: Path, setting: str, exc: OSError) -> StorageError:
    """Return the error for a directory of the configuration that could not be made or written."""
    kind = StorageError if exc.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO} else DeniedError
    return kind.at(path, exc.strerror, f"{setting} must be a directory that can be written")


def put_in_place(draft: Path, path: Path) -> None:
    """Give a finished file its final name. A file that is found under that name is whole, even after a power loss.

    Without the first sync, the name could be durable before the content. Without the last, neither would be.
    """
    sync_file(draft)
    draft.replace(path)
    sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """Return when the content of a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Return when the names in a directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path, name: Path) -> None:
    """Give a file another name, under which nothing looks for it. An older file of that name goes."""
    path.replace(name)


def link_into(directory: Path, path: Path | str) -> None:
    """Give a file one more name, the same in another directory."""
    os.link(path, directory / os.path.basename(path))  # noqa: PTH119  making a Path costs more than the call


def remove_files(files: Iterable[Path]) -> None:
    """Remove files. Ignore failures: the next run tries again, and an earlier error matters more."""
    for file in files:
        with suppress(OSError):
            file.unlink()


_SEND_WAIT = dt.timedelta(minutes=10)
"""How long `send` waits for others that send: each holds the lock for one copy of a file."""


class Disk:
    """A directory as a store: see `storage.store.Store`. `setting` is its name in the configuration."""

    def __init__(self, path: Path, setting: str = "warehouse.path") -> None:
        self.path = path
        self._setting = setting
        self.uri = str(path)

    @property
    def mirror(self) -> None:
        """Return None: nothing is copied."""

    @property
    def local(self) -> Path | None:
        """Return the directory."""
        return self.path

    def at(self, *names: str) -> str:
        """Return the path of what is below the directory."""
        return "/".join((self.uri, *names))

    def delta_options(self) -> None:
        """Return None: deltalake opens a directory as it is."""

    def folders_with(self, name: str) -> list[str]:
        """Return the names of the directories here that have a directory of this name, sorted."""
        entries = self.path.iterdir() if self.path.exists() else ()
        return sorted(entry.name for entry in entries if (entry / name).is_dir())

    def exists(self, name: str) -> bool:
        """Tell whether a file is there."""
        return Path(name).exists()

    def sizes(self, names: Iterable[str]) -> Iterator[tuple[str, int | None]]:
        """Yield files with their sizes in bytes; None for one that is missing."""
        for name in names:
            try:
                yield name, os.stat(name).st_size  # noqa: PTH116  making a Path costs more than the call
            except FileNotFoundError:
                yield name, None

    def listed(self, folder: str) -> dict[str, int]:
        """Return the files below a directory, with their sizes in bytes. One that vanishes meanwhile is left out."""
        names = (str(path) for path in Path(folder).rglob("*") if path.is_file())
        return {name: size for name, size in self.sizes(names) if size is not None}

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if it is missing."""
        try:
            return Path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def fetch(self, name: str) -> Path:
        """Return the path."""
        return Path(name)

    def draft(self, name: str) -> Path:
        """Return the path of a file that is written where it will stay."""
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        return Path(name)

    def keep(self, draft: Path, name: str) -> None:
        """Sync the content of a file. Its name is synced with the others of its table."""
        assert draft == Path(name)
        sync_file(draft)

    def swap(self, draft: Path, name: str, _made_of: Mapping[str, int]) -> None:
        """Rename a file over another one, durably. Only the holder of the lock does so."""
        put_in_place(draft, Path(name))

    def remove(self, name: str) -> None:
        """Remove a file if it is there. It stays away."""
        Path(name).unlink(missing_ok=True)
        sync_directory(Path(name).parent)

    def versions(self) -> dict[str, Version]:
        """Return the files directly in the directory, and their versions."""
        found = {}
        for path in self.path.iterdir() if self.path.exists() else ():
            with suppress(FileNotFoundError):  # it was removed meanwhile
                if path.is_file():
                    found[path.name] = _version(path.stat())
        return found

    def send(self, file: Path, name: str, former: str | None) -> str:
        """Copy a file here. Whoever sends holds a lock, so that nothing changes between the look and the rename."""
        with self.locked(self.at(".sending"), _SEND_WAIT, lambda: False):
            path = Path(name)
            there = _version(path.stat()).tag if path.exists() else None
            if there != former:
                raise ConditionError(errno.EAGAIN, "another writer was first", name)
            make_directory(path.parent)
            draft = Path(self.at(".sending.new"))  # one name for all: what a killed job has left is overwritten
            shutil.copyfile(file, draft)
            put_in_place(draft, path)
            return _version(path.stat()).tag

    def receive(self, name: str, file: Path) -> str:
        """Copy a file from here."""
        with Path(name).open("rb") as source:
            with storage_errors(file), file.open("wb") as target:
                shutil.copyfileobj(source, target)
            return _version(os.fstat(source.fileno())).tag

    def discard(self, names: Iterable[str]) -> None:
        """Remove files and ignore failures."""
        remove_files(map(Path, names))

    def opened(self, name: str) -> str:
        """Return the path: pyarrow reads a disk by itself."""
        return name

    def connect(self, connection: "duckdb.DuckDBPyConnection") -> None:
        """Do nothing: DuckDB reads a disk by itself."""

    def check_writable(self) -> None:
        """Refuse a directory that cannot be made or written."""
        check_writable(self.path, self._setting)
        check_links(self.path, self._setting)

    def locked(self, name: str, wait: dt.timedelta, stopped: Callable[[], bool]) -> AbstractContextManager[Taken]:
        """Hold the lock of the kernel on a file, which is free as soon as its holder has ended."""
        from etl.storage.locks import locked  # noqa: PLC0415  which imports this module

        return locked(Path(name), self._setting, wait, stopped)

    def still_locked(self, *, is_new: bool = False) -> None:
        """Do nothing: the kernel takes the lock from nobody."""

    def note(self, lock: str) -> bytes | None:
        """Return the content of the note beside the lock; None if there is none."""
        return self.read(self.note_of(lock))

    def note_of(self, lock: str) -> str:
        """Return the path of the note beside the lock."""
        return str(Path(lock).with_name(".unfinished.json"))

    def set_note(self, lock: str, content: bytes | None) -> None:
        """Write the note beside the lock, or remove it, durably."""
        if content is None:
            self.remove(self.note_of(lock))
        else:
            draft = Path(self.note_of(lock)).with_suffix(".new")
            draft.write_bytes(content)
            put_in_place(draft, Path(self.note_of(lock)))


def _version(stat: os.stat_result) -> Version:
    """Return the version of a file that is only ever replaced by a rename: so another content has another inode."""
    return Version(f"{stat.st_mtime_ns}-{stat.st_size}-{stat.st_ino}", stat.st_size)
