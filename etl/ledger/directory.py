"""The state directory: the lock that admits one job at a time, the ledgers, and when old ledgers are deleted."""

import datetime as dt
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etl.errors import LedgerError
from etl.ledger.ledger import Ledger
from etl.model import RunState
from etl.storage import disk
from etl.storage.disk import make_directory, not_writable, storage_errors
from etl.storage.locks import locked

log = logging.getLogger(__name__)

RUN_ID_TIME = "%Y%m%dT%H%M%SZ"
"""Run ids begin with the UTC time at which the run began; the microsecond follows, so that they sort by time."""
AT_ONCE = 10
"""How many ledgers one job deletes."""


@contextmanager
def lock(state_dir: Path) -> Iterator[None]:
    """Hold the lock on the state directory, which is made if it is missing.

    Raises:
        LockedError: another process holds it.
        StorageError: the directory cannot be written.
    """
    try:
        make_directory(state_dir, 0o700)
    except OSError as exc:
        raise not_writable(state_dir / "lock", "state_dir", exc) from exc
    with locked(state_dir / "lock", "state_dir"):
        yield


def new_run_id() -> str:
    """Return the id of a run that begins now."""
    now = dt.datetime.now(dt.UTC)
    return f"{now:{RUN_ID_TIME}}-{now.microsecond:05x}{secrets.token_hex(2)}"


def ledger_paths(state_dir: Path) -> list[Path]:
    """Return the ledgers, oldest first: their names begin with the time of the run."""
    return _files_of(state_dir, ".sqlite")


def forget_note(state_dir: Path) -> Path:
    """Return where `forget` notes what it is about to remove."""
    return state_dir / "forget.json"


def damaged_ledgers(state_dir: Path) -> list[Path]:
    """Return the ledgers that were set aside, oldest first."""
    return _files_of(state_dir, ".damaged")


def readable_ledgers(state_dir: Path) -> tuple[list[Path], str | None]:
    """Return the ledgers that this user may open, oldest first, and which it may not; None if it may open all."""
    try:
        paths = ledger_paths(state_dir)
    except PermissionError as exc:
        return [], f"{exc.filename}: this user may not look into it"
    found = [path for path in paths if os.access(path, os.R_OK | os.W_OK)]  # SQLite locks what it reads
    if len(found) == len(paths):
        return found, None
    return found, f"{state_dir / 'runs'}: this user may not open {len(paths) - len(found)} of {len(paths)} ledgers"


def mark_path(path: Path) -> Path:
    """Return where the mark of a ledger stands that has a copy: see `ledger.copies`."""
    return path.with_suffix(".kept")


def _files_of(state_dir: Path, suffix: str) -> list[Path]:
    """Return the files of runs with a suffix. `Path.glob` would find none where this user may not look."""
    try:
        return sorted(path for path in (state_dir / "runs").iterdir() if path.suffix == suffix)
    except FileNotFoundError:
        return []


def set_aside(path: Path) -> None:
    """Rename a ledger that cannot be read, and the files that SQLite keeps beside it, so that no run finds it again."""
    with storage_errors(path):
        mark_path(path).unlink(missing_ok=True)
        for suffix in ("", "-wal", "-shm"):  # the ledger first: without its log it could pass for an older one
            file = Path(f"{path}{suffix}")
            if file.exists():
                disk.set_aside(file, Path(f"{path.with_suffix('.damaged')}{suffix}"))


def remove_ledger(path: Path) -> None:
    """Delete a ledger after the files beside it, so that none of them is left alone."""
    with storage_errors(path):
        for file in (mark_path(path), Path(f"{path}-wal"), Path(f"{path}-shm"), path):
            file.unlink(missing_ok=True)


def remove_old_ledgers(state_dir: Path, keep: dt.timedelta, max_checkpoint_age: dt.timedelta) -> None:
    """Delete the ledgers of runs that began longer ago than `keep`, the oldest first, and only some at a time.

    A clock that is wrong makes every ledger old. So the newest ledger stays, and those that may still be resumed or
    published. What is left over is deleted by the next jobs.
    """
    old = []
    for path in (*ledger_paths(state_dir)[:-1], *damaged_ledgers(state_dir)):
        age = age_of(path)
        if age and age > keep and not is_needed(path, may_be_resumed=age <= max_checkpoint_age):
            old.append(path)
    for path in old[:AT_ONCE]:
        log.info("%s is deleted: run.keep_ledgers is %s", path.name, keep)
        remove_ledger(path)
    if len(old) > AT_ONCE:
        log.warning("%d more ledgers are older than run.keep_ledgers; is the clock right?", len(old) - AT_ONCE)


def age_of(path: Path) -> dt.timedelta | None:
    """Return how long ago the run of a ledger began; None if the job gave this file no name of a run."""
    try:
        began_at = dt.datetime.strptime(path.stem.partition("-")[0], RUN_ID_TIME).replace(tzinfo=dt.UTC)
    except ValueError:
        return None
    return dt.datetime.now(dt.UTC) - began_at


def is_needed(path: Path, *, may_be_resumed: bool) -> bool:
    """Tell whether a run has still to be published, or is resumed by the next one, if it may be."""
    try:
        with Ledger.open(path) as ledger:
            return bool(ledger.open_publications()) or (may_be_resumed and ledger.run().state is RunState.OPEN)
    except LedgerError:
        return False
