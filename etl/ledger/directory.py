"""The state directory: the lock that lets one job at a time work on it, its ledgers, and how long they stay there."""

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
from etl.storage.disk import make_directory, storage_errors

log = logging.getLogger(__name__)

RUN_ID_TIME = "%Y%m%dT%H%M%SZ"
"""Run ids begin with the UTC time at which the run began."""


@contextmanager
def lock(state_dir: Path) -> Iterator[None]:
    """Hold the kernel's lock on the state directory; it dies with the process.

    Raises:
        LockedError: another process holds it.
        StorageError: the directory cannot be written.
    """
    path = state_dir / "lock"
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


def ledger_paths(state_dir: Path) -> list[Path]:
    """Return the ledgers of a state directory, oldest first: run ids begin with their time."""
    return sorted((state_dir / "runs").glob("*.sqlite"))


def set_aside_paths(state_dir: Path) -> list[Path]:
    """Return the ledgers of a state directory that could not be read."""
    return sorted((state_dir / "runs").glob("*.damaged"))


def set_aside(path: Path) -> None:
    """Rename a ledger that cannot be read, and what SQLite keeps beside it; no run finds it again."""
    with storage_errors(path):
        for suffix in ("", "-wal", "-shm"):  # the ledger itself first: without its log it could pass for an older one
            file = Path(f"{path}{suffix}")
            if file.exists():
                file.rename(f"{path.with_suffix('.damaged')}{suffix}")


def remove_ledger(path: Path) -> None:
    """Delete a ledger and what SQLite keeps beside it; the ledger itself last, so that nothing is left without it."""
    with storage_errors(path):
        for file in (Path(f"{path}-wal"), Path(f"{path}-shm"), path):
            file.unlink(missing_ok=True)


def remove_old_ledgers(state_dir: Path, keep: dt.timedelta, max_checkpoint_age: dt.timedelta) -> None:
    """Delete the ledgers of runs that began longer ago than `keep`, but none that may be resumed."""
    now = dt.datetime.now(dt.UTC)
    for path in (*ledger_paths(state_dir), *set_aside_paths(state_dir)):
        began_at = _began_at(path)
        if began_at is None or now - began_at <= keep:
            continue
        if now - began_at <= max_checkpoint_age and _is_open(path):
            continue
        log.info("%s is deleted: run.keep_ledgers is %s", path.name, keep)
        remove_ledger(path)


def _is_open(path: Path) -> bool:
    try:
        with Ledger.open(path) as ledger:
            return ledger.run().state is RunState.OPEN
    except LedgerError:
        return False


def _began_at(path: Path) -> dt.datetime | None:
    try:
        return dt.datetime.strptime(path.stem.partition("-")[0], RUN_ID_TIME).replace(tzinfo=dt.UTC)
    except ValueError:
        return None  # not named by us: not ours to delete
