"""The log of a Delta table: made durable, summed up in checkpoints, and mended after a power loss.

deltalake syncs nothing. On a disk, this module syncs log entries and checkpoints, so that a power loss does not undo
them.

In an object store, deltalake reads copies of the newest entries in a directory of this process, and writes the next one
there. Then the entry is put under its name in the store, which must be new: that is the commit. What the store has
accepted is durable and whole.
"""

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from etl.errors import StorageError
from etl.storage.disk import link_into, put_in_place, set_aside, storage_errors, sync_directory, sync_file
from etl.storage.store import ConditionError, Store

log = logging.getLogger(__name__)

NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
"""Turns off deltalake's own checkpoints. They are not synced, but the log entries in them are removed at once: after a
power loss, both could be gone."""
LOG = "_delta_log"
_LAST = "_last_checkpoint"
_ASIDE = "_checkpoint-"
_LEFT_AFTER_S = 3600
_ENTRY = re.compile(r"[0-9]{20}\.json")
_OF_VERSION = re.compile(r"[0-9]{20}\.(json$|checkpoint\.)")


def place_of(store: Store, table: str) -> Path:
    """Return the directory on this machine with the log of a table."""
    root = store.mirror.path if store.mirror else store.local
    assert root is not None
    return root / table


def look(store: Store, table: str, *, again: bool = True) -> None:
    """Bring the log of a table to this machine, as far as its newest version needs it. Do nothing on a disk.

    `again` asks the store even if that was done before.
    """
    if mirror := store.mirror:
        folder = f"{table}/{LOG}"
        if folder not in mirror.unread and (again or not mirror.knows(folder)):
            mirror.look(folder)
        if folder in mirror.unread:
            mirror.bring(folder, needed)


def delta_table(store: Store, table: str, version: int | None = None) -> DeltaTable:
    """Open a table as it was when it was last looked at, or as it was in a version; raises what deltalake raises."""
    if store.mirror and version is not None:
        store.mirror.bring(f"{table}/{LOG}", lambda names: needed(names, version))
    return DeltaTable(place_of(store, table), version=version)


def needed(names: Collection[str], version: int | None = None) -> list[str]:
    """Return what deltalake reads of a log to open a version, or the newest: a checkpoint, and what follows."""
    upto = f"{version:020}~" if version is not None else "~"
    known = [name for name in names if _OF_VERSION.match(name) and name <= upto]
    since = max((name[:20] for name in known if ".checkpoint." in name), default="")
    return sorted(name for name in known if name >= since)


def in_store(store: Store, table: str) -> DeltaTable:
    """Open a table where its data files are, for what deltalake does to them."""
    return DeltaTable(store.at(table), storage_options=store.delta_options())


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
                set_aside(entry, entry.with_suffix(".torn"))
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
    """Make the log entries of a table from the version `since` on durable. In an object store, this puts them there.

    Raises:
        CommitFailedError: in an object store, another entry has that number; or the answer to the put was lost.
        OSError: in an object store, the entry may have landed.
        StorageError: the disk refused.
    """
    logs = place_of(store, table) / LOG
    if store.mirror:
        try:
            store.mirror.publish(f"{table}/{LOG}", [entry.name for entry in log_entries(logs, since)])
        except ConditionError as exc:
            raise CommitFailedError(f"{exc.filename}: {exc.strerror}") from exc
        return
    with storage_errors(logs):
        for entry in log_entries(logs, since):
            sync_file(entry)
        sync_names(store, table, LOG)


def append_entry(  # noqa: PLR0913, PLR0917  what is committed, where, and by whom
    store: Store,
    name: str,
    table: DeltaTable,
    schema: Schema,
    actions: Sequence[AddAction | RemoveAction],
    run_id: str,
    transaction: Transaction,
) -> None:
    """Append one entry to the log of the table of a name, on top of the version that `table` has read.

    On a disk, `sync_log` makes it durable afterwards.

    The transaction is the last line of the entry: without it, `mend` takes the entry for one that was cut.

    Raises:
        CommitFailedError: proven not landed: another entry has that number, or has removed the same files.
        DeltaError, OSError: the entry may have landed.
        StorageError: another job has taken the lock; nothing was appended.
    """
    # After the version was read: whoever has taken the lock appends an entry to each table before all else.
    store.still_locked(is_new=table.version() == 0)
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
    if store.mirror:
        sync_log(store, name, since=table.version())


def log_entries(logs: Path, since: int = 0) -> list[Path]:
    """Return the entries of a log from the version `since` on, oldest first."""
    return [logs / name for name in _entry_names(logs) if name >= f"{since:020}"]


def _entry_names(logs: Path) -> list[str]:
    """Return the names of the entries of a log, oldest first. Thousands of paths would take longer."""
    return sorted(filter(_ENTRY.fullmatch, os.listdir(logs)))  # noqa: PTH208


def is_newest(store: Store, name: str, table: DeltaTable) -> bool:
    """Tell whether a table was read up to the newest version that is here."""
    logs, version = place_of(store, name) / LOG, table.version()
    if store.mirror:  # entries before the last checkpoint may be missing
        return _entry_names(logs)[-1:] == [f"{version:020}.json"]
    # Versions have no gaps, so the next number decides.
    return [os.path.exists(f"{logs}/{version + i:020}.json") for i in (0, 1)] == [True, False]  # noqa: PTH110


def write_checkpoint(store: Store, name: str) -> None:
    """Sum up the log of a table in a checkpoint, which is durable when this returns.

    Raises:
        StorageError: the disk refused. The table has not changed.
    """
    path = place_of(store, name)
    logs = path / LOG
    try:
        if store.mirror:
            table = delta_table(store, name)
            if (logs / f"{table.version():020}.checkpoint.parquet").exists():
                return
            table.create_checkpoint()
            for entry in (f"{table.version():020}.checkpoint.parquet", _LAST):
                store.mirror.replace(f"{name}/{LOG}", entry)
            (logs / _LAST).unlink()  # that of the store may be a newer one tomorrow
            return
        # The checkpoint is made in another directory, synced and renamed: readers cannot open a table whose newest
        # checkpoint is incomplete. What deltalake reads of the log is linked there: the last checkpoint, what follows.
        with TemporaryDirectory(prefix=_ASIDE, dir=path, ignore_cleanup_errors=True) as aside:
            made = Path(aside) / LOG
            made.mkdir()
            since = f"{_last_checkpoint(logs):020}"
            for entry in os.listdir(logs):  # noqa: PTH208  thousands of entries
                if entry == _LAST or entry >= since:
                    link_into(made, logs / entry)
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
