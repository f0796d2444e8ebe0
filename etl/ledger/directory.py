"""The state directory: the lock that lets one run at a time work on it, and how long ledgers stay there."""

import datetime as dt
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etl.config import Settings
from etl.errors import LedgerError, LockedError, StorageError
from etl.ledger.ledger import Ledger, ledger_paths, remove_ledger, set_aside_paths
from etl.storage.disk import make_directory

log = logging.getLogger(__name__)

RUN_ID_TIME = "%Y%m%dT%H%M%SZ"
"""Run ids begin with the UTC time at which the run began."""


@contextmanager
def lock(settings: Settings) -> Iterator[None]:
    """Hold the kernel's lock on the state directory; it dies with the process.

    Raises:
        LockedError: another process holds it.
        StorageError: the directory cannot be written.
    """
    path = settings.state_dir / "lock"
    try:
        make_directory(path.parent)
        file = path.open("a+")
    except OSError as exc:
        raise StorageError.at(path, exc.strerror, "state_dir must be a directory that can be written") from exc
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise LockedError(f"{path}: another run holds the lock (process {holder}); wait until it ends") from None
        try:
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        except OSError as exc:
            raise StorageError.at(path, exc.strerror) from exc
        yield
    finally:
        with suppress(OSError):  # its text is for people only; the lock goes with the descriptor
            file.close()


def remove_old_ledgers(settings: Settings) -> None:
    """Delete the ledgers of runs that began longer ago than `run.keep_ledgers`, but none that may be resumed."""
    now = dt.datetime.now(dt.UTC)
    for path in (*ledger_paths(settings.state_dir), *set_aside_paths(settings.state_dir)):
        began_at = _began_at(path)
        if began_at is None or now - began_at <= settings.run.keep_ledgers:
            continue
        if now - began_at <= settings.run.max_checkpoint_age and _is_open(path):
            continue
        log.info("%s is deleted: run.keep_ledgers is %s", path.name, settings.run.keep_ledgers)
        remove_ledger(path)


def _is_open(path: Path) -> bool:
    try:
        with Ledger.open(path) as ledger:
            return ledger.run().state == "open"
    except LedgerError:
        return False


def _began_at(path: Path) -> dt.datetime | None:
    try:
        return dt.datetime.strptime(path.stem.partition("-")[0], RUN_ID_TIME).replace(tzinfo=dt.UTC)
    except ValueError:
        return None  # not named by us: not ours to delete
