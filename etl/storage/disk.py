"""The promises of a local disk: a name, or the content of a file, is durable after it was synced.

No other room calls fsync or renames a file into its place.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etl.errors import DeniedError, StorageError


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into a StorageError that names `path`."""
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


def remove_files(files: Iterable[Path]) -> None:
    """Remove files. Ignore failures: the next run tries again, and an earlier error matters more."""
    for file in files:
        with suppress(OSError):
            file.unlink()
