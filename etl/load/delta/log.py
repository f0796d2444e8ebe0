"""The log of a Delta table: made durable, summed up in checkpoints, and mended after a power loss.

deltalake syncs nothing. On a disk, this module syncs log entries and checkpoints, so that a power loss does not undo
them. What an object store has accepted is durable and whole.
"""

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema, Transaction
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from etl.errors import StorageError
from etl.storage.disk import put_in_place, storage_errors, sync_directory, sync_file
from etl.storage.store import Store

log = logging.getLogger(__name__)

NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
"""Turns off deltalake's own checkpoints. They are not synced, but the log entries in them are removed at once: after a
power loss, both could be gone."""
LOG = "_delta_log"
_LAST = "_last_checkpoint"
_ASIDE = "_checkpoint-"
_LEFT_AFTER_S = 3600
_ENTRY = re.compile(r"[0-9]{20}\.json")


def delta_table(store: Store, name: str, version: int | None = None) -> DeltaTable:
    """Open a table as it is, or as it was in a version; raises what deltalake raises."""
    return DeltaTable(store.at(name), version=version, storage_options=store.delta_options())


def mend(store: Store) -> None:
    """Set aside the newest log entries of each table if a power loss cut them, so that readers can open the table.

    The name of an entry can be on the disk before its content. Such a commit was not durable yet.

    Raises:
        StorageError: the disk refused.
    """
    for path in (store.local / name for name in store.folders_with(LOG)) if store.local else ():
        logs = path / LOG
        with storage_errors(logs):
            entries = [
                logs / name for name in _entry_names(logs)[-2:]
            ]  # a vacuum writes two entries before it syncs them
            torn = next((number for number, entry in enumerate(entries) if _is_torn(entry)), len(entries))
            for entry in reversed(entries[torn:]):
                log.warning("%s: this log entry is incomplete after a power loss; it is set aside", entry)
                entry.replace(entry.with_suffix(".torn"))
            for leftover in path.glob(f"{_ASIDE}*"):
                with suppress(FileNotFoundError):  # another machine may use it, or remove it first
                    if time.time() - leftover.stat().st_mtime > _LEFT_AFTER_S:
                        shutil.rmtree(leftover, ignore_errors=True)


def sync_names(store: Store, table: str, folder: str) -> None:
    """Sync the names in a directory inside a table, in the table's directory, and in the warehouse's."""
    if store.local:
        for directory in (store.local / table / folder, store.local / table, store.local):
            sync_directory(directory)


def sync_log(store: Store, table: str, since: int = 0) -> None:
    """Sync the log entries of a table from the version `since` on."""
    if store.local:
        logs = store.local / table / LOG
        with storage_errors(logs):
            for entry in log_entries(logs, since):
                sync_file(entry)
            sync_names(store, table, LOG)


def append_entry(  # noqa: PLR0913, PLR0917  what is committed, where, and by whom
    store: Store,
    table: DeltaTable,
    schema: Schema,
    actions: Sequence[AddAction | RemoveAction],
    run_id: str,
    transaction: Transaction,
) -> None:
    """Append one entry to the log of a table, on top of the version that `table` has read. `sync_log` makes it durable.

    The transaction is the last line of the entry: without it, `mend` takes the entry for one that was cut.

    Raises:
        CommitFailedError: proven not landed: another entry has that number, or has removed the same files.
        DeltaError, OSError: the entry may have landed.
        StorageError: another job has taken the lock; nothing was appended.
    """
    store.still_locked()  # after the version was read: whoever has taken the lock appends an entry before all else
    table.create_write_transaction(
        list(actions),
        mode="append",
        schema=schema,
        partition_by=table.metadata().partition_columns,
        commit_properties=CommitProperties(
            app_transactions=[transaction],
            custom_metadata={"run_id": run_id},
            max_commit_retries=0,
        ),
        post_commithook_properties=NO_HOOKS,
    )


def log_entries(logs: Path, since: int = 0) -> list[Path]:
    """Return the entries of a log from the version `since` on, oldest first."""
    return [logs / name for name in _entry_names(logs) if name >= f"{since:020}"]


def _entry_names(logs: Path) -> list[str]:
    """Return the names of the entries of a log, oldest first. Thousands of paths would take longer."""
    return sorted(filter(_ENTRY.fullmatch, os.listdir(logs)))  # noqa: PTH208


def is_newest(store: Store, name: str, table: DeltaTable) -> bool:
    """Tell whether a table was read up to its newest version. Versions have no gaps, so the next number decides."""
    entries = [store.at(name, LOG, f"{table.version() + i:020}.json") for i in (0, 1)]
    there = [size is not None for _, size in store.sizes(entries)]
    return there == [True, False]


def write_checkpoint(store: Store, name: str) -> None:
    """Sum up the log of a table in a checkpoint, which is durable when this returns.

    Raises:
        StorageError: the disk refused. The table has not changed.
    """
    if not store.local:
        try:
            delta_table(store, name).create_checkpoint()
        except (DeltaError, OSError) as exc:
            raise StorageError.at(store.at(name, LOG), said(exc)) from exc
        return
    path = store.local / name
    logs = path / LOG
    try:
        # The checkpoint is made in another directory, synced and renamed: readers cannot open a table whose newest
        # checkpoint is incomplete. What deltalake reads of the log is linked there: the last checkpoint, what follows.
        with TemporaryDirectory(prefix=_ASIDE, dir=path, ignore_cleanup_errors=True) as aside:
            made = Path(aside) / LOG
            made.mkdir()
            since = f"{_last_checkpoint(logs):020}"
            for entry in os.listdir(logs):  # noqa: PTH208  thousands of entries
                if entry == _LAST or entry >= since:
                    os.link(logs / entry, made / entry)
            table = DeltaTable(aside)
            table.create_checkpoint()
            for entry in (f"{table.version():020}.checkpoint.parquet", _LAST):
                put_in_place(made / entry, logs / entry)
    except (DeltaError, OSError) as exc:
        raise StorageError.at(logs, said(exc)) from exc


def _last_checkpoint(logs: Path) -> int:
    """Return the version that the last checkpoint of a log sums up; 0 if that cannot be read."""
    try:
        return int(json.loads((logs / _LAST).read_bytes())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _is_torn(entry: Path) -> bool:
    """Tell whether a power loss cut a log entry.

    Other damage does not count: that commit may have been durable, and its rows must not disappear.
    """
    text = entry.read_bytes().rstrip()
    if b"\0" in text or not text.endswith(b"}"):
        return True
    try:
        actions = {name: action for line in text.splitlines() for name, action in json.loads(line).items()}
    except ValueError:
        return False
    # An entry cut between two lines has valid lines only. The last line of our commits is the transaction, and the
    # first entry of a table must have its columns.
    ours = "run_id" in actions.get("commitInfo", {})
    return (ours and "txn" not in actions) or (int(entry.stem) == 0 and "metaData" not in actions)


def said(exc: Exception) -> str:
    """Return the message of a deltalake error on one line, without its backtrace and colour codes."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in str(exc).splitlines()]
    return ": ".join(line.removeprefix("↳ ") for line in lines if line and not re.match(r"\d+: |at ", line))
