"""The log of a Delta table: durable, summed up, and mended after a power loss.

deltalake syncs nothing: whatever the log names after a power loss is on the disk because this module put it there.
"""

import json
import logging
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from deltalake import DeltaTable, PostCommitHookProperties
from deltalake.exceptions import DeltaError

from etl.errors import StorageError
from etl.storage.disk import put_in_place, storage_errors, sync_directory, sync_file

log = logging.getLogger(__name__)

NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
"""deltalake would write a checkpoint, sync nothing, and remove the log entries that it sums up: a power loss then could
leave neither."""
_ASIDE = "_checkpoint-"
_LEFT_AFTER_S = 3600
_ENTRY = re.compile(r"[0-9]{20}\.json")


def table_paths(warehouse: Path) -> list[Path]:
    """Return the directories of all tables, in the order of their names."""
    if not warehouse.is_dir():
        return []
    return sorted(entry for entry in warehouse.iterdir() if (entry / "_delta_log").is_dir())


def mend(warehouse: Path) -> None:
    """Set aside what a power loss left of the newest commit of each table: it was not durable yet.

    Its name can be on the disk before what is in it. No reader can open the table then.

    Raises:
        StorageError: the disk refused.
    """
    for path in table_paths(warehouse):
        logs = path / "_delta_log"
        with storage_errors(logs):
            entries = log_entries(logs)[-2:]  # a vacuum writes two before it syncs them
            torn = next((number for number, entry in enumerate(entries) if _is_torn(entry)), len(entries))
            for entry in reversed(entries[torn:]):
                log.warning("%s: a power loss left only part of it; it is set aside", entry)
                entry.replace(entry.with_suffix(".torn"))
            for leftover in path.glob(f"{_ASIDE}*"):
                with suppress(FileNotFoundError):  # another machine may be at it, or remove it first
                    if time.time() - leftover.stat().st_mtime > _LEFT_AFTER_S:
                        shutil.rmtree(leftover, ignore_errors=True)


def sync_names(path: Path) -> None:
    """Return when the names in a directory, and in those above it up to the table's, are on the disk."""
    for directory in (path, path.parent, path.parent.parent):
        sync_directory(directory)


def sync_log(path: Path, since: int = 0) -> None:
    """Return when the commits of a table, from one version on, are on the disk."""
    logs = path / "_delta_log"
    with storage_errors(logs):
        for entry in log_entries(logs, since):
            sync_file(entry)
        sync_names(logs)


def log_entries(logs: Path, since: int = 0) -> list[Path]:
    """Return the commits of a log from one version on, oldest first."""
    names = sorted(filter(_ENTRY.fullmatch, os.listdir(logs)))  # noqa: PTH208  there are thousands
    return [logs / name for name in names if int(name[:20]) >= since]


def is_newest(path: Path, table: DeltaTable) -> bool:
    """Tell whether the log of a table ends with the version that was read: versions have no gaps."""
    newest, following = (path / "_delta_log" / f"{table.version() + i:020}.json" for i in (0, 1))
    return newest.exists() and not following.exists()


def write_checkpoint(path: Path) -> None:
    """Sum the log of a table up; it is durable when this returns.

    Raises:
        StorageError: the disk refused. The table is what it was.
    """
    logs = path / "_delta_log"
    try:
        # Made aside and renamed: no reader can open a table whose newest checkpoint is there by name only. Entries are
        # linked, for a log has thousands of them and they never change.
        with TemporaryDirectory(prefix=_ASIDE, dir=path, ignore_cleanup_errors=True) as aside:
            made = shutil.copytree(logs, Path(aside) / "_delta_log", copy_function=os.link)
            table = DeltaTable(aside)
            table.create_checkpoint()
            for name in (f"{table.version():020}.checkpoint.parquet", "_last_checkpoint"):
                put_in_place(made / name, logs / name)
    except (DeltaError, OSError) as exc:
        raise StorageError.at(logs, said(exc)) from exc


def _is_torn(entry: Path) -> bool:
    """Tell whether a log entry is only part of what was written.

    One that is damaged otherwise is not: whoever damaged it may have damaged what was published.
    """
    text = entry.read_bytes().rstrip()
    if b"\0" in text or not text.endswith(b"}"):
        return True
    try:
        actions = {name: action for line in text.splitlines() for name, action in json.loads(line).items()}
    except ValueError:
        return False
    # It may be cut between two lines: ours end with the transaction, the first one of a table with its columns.
    ours = "run_id" in actions.get("commitInfo", {})
    return (ours and "txn" not in actions) or (int(entry.stem) == 0 and "metaData" not in actions)


def said(exc: Exception) -> str:
    """Return what an error of the storage library says, without its backtrace and its colours."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in str(exc).splitlines()]
    return ": ".join(line.removeprefix("↳ ") for line in lines if line and not re.match(r"\d+: |at ", line))
