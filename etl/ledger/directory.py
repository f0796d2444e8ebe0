"""The state directory: the lock that admits one job at a time, the ledgers, and when old ledgers are deleted."""

import datetime as dt
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etl.errors import LedgerError, LockedError, StorageError
from etl.ledger.ledger import Ledger
from etl.model import RunState
from etl.storage.disk import make_directory, open_own, storage_errors

log = logging.getLogger(__name__)

RUN_ID_TIME = "%Y%m%dT%H%M%SZ"
"""Run ids begin with the UTC time at which the run began."""


@contextmanager
def lock(state_dir: Path) -> Iterator[None]:
    """Hold the kernel's lock on the state directory. It ends with the process at the latest.

    Raises:
        LockedError: another process holds it.
        StorageError: the directory cannot be written.
    """
    path = state_dir / "lock"
    try:
        make_directory(state_dir, 0o700)
        file = os.fdopen(open_own(path, os.O_RDWR), "r+")
    except OSError as exc:
        raise StorageError.at(path, exc.strerror, "state_dir must be a directory that can be written") from exc
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise LockedError(f"{path}: another run holds the lock (process {holder}); wait until it ends") from None
        with storage_errors(path):
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield
    finally:
        with suppress(OSError):  # only people read the process id; closing releases the lock even if it fails
            file.close()


def ledger_paths(state_dir: Path) -> list[Path]:
    """Return the ledgers, oldest first: their names begin with the time of the run."""
    return sorted((state_dir / "runs").glob("*.sqlite"))


def set_aside(path: Path) -> None:
    """Rename a ledger that cannot be read, and the files that SQLite keeps beside it, so that no run finds it again."""
    with storage_errors(path):
        for suffix in ("", "-wal", "-shm"):  # the ledger first: without its log it could pass for an older one
            file = Path(f"{path}{suffix}")
            if file.exists():
                file.rename(f"{path.with_suffix('.damaged')}{suffix}")


def remove_ledger(path: Path) -> None:
    """Delete a ledger after the files that SQLite keeps beside it, so that none of them is left alone."""
    with storage_errors(path):
        for file in (Path(f"{path}-wal"), Path(f"{path}-shm"), path):
            file.unlink(missing_ok=True)


def remove_old_ledgers(state_dir: Path, keep: dt.timedelta, max_checkpoint_age: dt.timedelta) -> None:
    """Delete the ledgers of runs that began longer ago than `keep`, except those that may still be resumed."""
    now = dt.datetime.now(dt.UTC)
    for path in (*ledger_paths(state_dir), *(state_dir / "runs").glob("*.damaged")):
        try:
            age = now - dt.datetime.strptime(path.stem.partition("-")[0], RUN_ID_TIME).replace(tzinfo=dt.UTC)
        except ValueError:
            continue  # the job gave this file no name of a run, so it does not delete it
        if age > keep and not (age <= max_checkpoint_age and _is_open(path)):
            log.info("%s is deleted: run.keep_ledgers is %s", path.name, keep)
            remove_ledger(path)


def _is_open(path: Path) -> bool:
    try:
        with Ledger.open(path) as ledger:
            return ledger.run().state is RunState.OPEN
    except LedgerError:
        return False
