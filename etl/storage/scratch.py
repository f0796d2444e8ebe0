"""Directories and files that a process needs until it ends.

A process that is killed removes nothing. So each holds a lock on its directories, which the system lets go with the
process, and a process that makes its first directory removes those of this user that nobody holds.
"""

import fcntl
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

_PREFIX = "nimble-etl."


class Scratch:
    """A new directory, which goes with this object; `remove` removes it sooner.

    Attributes:
        path: below the directory that the variable TMPDIR names, or the system's.

    Raises:
        OSError: the disk refused.
    """

    def __init__(self) -> None:
        _remove_abandoned(Path(tempfile.gettempdir()))
        self.path, held = _made()
        self.remove = weakref.finalize(self, _remove, self.path, held)

    def __enter__(self) -> Path:
        """Return the path."""
        return self.path

    def __exit__(self, *_: object) -> None:
        """Remove the directory."""
        self.remove()


@contextmanager
def draft_in(directory: Path) -> Iterator[IO[bytes]]:
    """Yield a new file that no other user may read. If nobody has given it another name, it is removed afterwards."""
    with tempfile.NamedTemporaryFile(dir=directory, delete=False) as draft:
        try:
            yield draft
        finally:
            Path(draft.name).unlink(missing_ok=True)


def _made() -> tuple[Path, int]:
    """Make a directory; return it, and the descriptor that holds it."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with suppress(FileNotFoundError):
            held = os.open(path, os.O_RDONLY)
            with suppress(OSError):  # where there are no locks, nobody takes it for abandoned either
                fcntl.flock(held, fcntl.LOCK_EX)
            if path.exists():  # otherwise another process has seen it before it was held
                return path, held
            os.close(held)


def _remove(path: Path, held: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(held)


@cache
def _remove_abandoned(parent: Path) -> None:
    """Remove the directories of this user whose process has ended. Once: thousands may lie there."""
    for path in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # somebody holds it, or it is another user's
            held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(held).st_uid == os.getuid():
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(held)
