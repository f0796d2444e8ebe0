"""Locks of the kernel: one process holds a lock at a time, and it is free at the moment when that process ends."""

import datetime as dt
import fcntl
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etl.errors import DeniedError, LockedError, StoppedError
from etl.storage.disk import not_writable, open_own
from etl.storage.store import Taken

log = logging.getLogger(__name__)

_LOOK_S = 0.1
"""How often a process that waits looks again. A wait in the kernel would hear no signal."""


@contextmanager
def locked(
    path: Path, setting: str, wait: dt.timedelta = dt.timedelta(0), stopped: Callable[[], bool] = lambda: False
) -> Iterator[Taken]:
    """Hold the lock on a file, which is made if it is missing and says who holds it.

    Args:
        path: the file.
        setting: name of its directory in the configuration.
        wait: how long to wait for another holder.
        stopped: becomes true when the wait must end at once.

    Raises:
        LockedError: another process holds the lock, and has not let it go in time.
        StoppedError: `stopped` became true.
        StorageError: the disk refused.
        DeniedError: the file cannot be opened by this user, or its file system has no locks.
    """
    try:
        file = os.fdopen(open_own(path, os.O_RDWR), "r+")
    except OSError as exc:
        raise not_writable(path, setting, exc) from exc
    try:
        waiting = Waiting(str(path), wait, stopped)
        while not _take(file.fileno(), path, setting):
            file.seek(0)
            waiting.go_on(file.read().strip() or "it does not say which", _LOOK_S)
        with suppress(OSError):  # only people read it: a full disk is found by what is written next
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}, since {dt.datetime.now(dt.UTC):%FT%TZ}\n")
            file.flush()
        yield Taken()
    finally:
        with suppress(OSError):  # closing lets the lock go even if the disk refuses the text
            file.close()


class Waiting:
    """The wait for a lock that another job holds."""

    def __init__(self, place: str, wait: dt.timedelta, stopped: Callable[[], bool]) -> None:
        self._place = place
        self._wait = wait
        self._until = time.monotonic() + wait.total_seconds()
        self._stopped = stopped
        self._is_told = False

    def go_on(self, holder: str, pause_s: float) -> None:
        """Wait until it is worth to look again.

        Raises:
            LockedError: that would be too long.
            StoppedError: the wait was stopped.
        """
        said = f"{self._place}: another run holds the lock ({holder})"
        if self._stopped():
            raise StoppedError(f"{said}; the wait for it was stopped; run again to continue")
        if time.monotonic() >= self._until:
            raise LockedError(f"{said}; wait until it ends")
        if not self._is_told:
            log.info("%s; waiting for its end, at most %s", said, self._wait)
            self._is_told = True
        time.sleep(pause_s)


def _take(descriptor: int, path: Path, setting: str) -> bool:
    """Take the lock if nobody holds it; tell whether that was so."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        then = f"{setting} must be on a file system that has locks (flock)"
        raise DeniedError.at(path, exc, then) from exc
    return True
