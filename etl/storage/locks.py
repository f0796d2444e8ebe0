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

log = logging.getLogger(__name__)

_LOOK_S = 0.1
"""How often a process that waits looks again. A wait in the kernel would hear no signal."""


@contextmanager
def locked(
    path: Path, setting: str, wait: dt.timedelta = dt.timedelta(0), stopped: Callable[[], bool] = lambda: False
) -> Iterator[None]:
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
        until, told = time.monotonic() + wait.total_seconds(), False
        while not _take(file.fileno(), path, setting):
            file.seek(0)
            holder = f"{path}: another run holds the lock ({file.read().strip() or 'it does not say which'})"
            if stopped():
                raise StoppedError(f"{holder}; the wait for it was stopped; run again to continue")
            if time.monotonic() >= until:
                raise LockedError(f"{holder}; wait until it ends")
            if not told:
                log.info("%s; waiting for its end, at most %s", holder, wait)
                told = True
            time.sleep(_LOOK_S)
        with suppress(OSError):  # only people read it: a full disk is found by what is written next
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}, since {dt.datetime.now(dt.UTC):%FT%TZ}\n")
            file.flush()
        yield
    finally:
        with suppress(OSError):  # closing lets the lock go even if the disk refuses the text
            file.close()


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
