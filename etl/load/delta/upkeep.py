"""Upkeep of a Delta table: merge small files, drop old dates, delete unreferenced files. Other rows stay the same."""

import datetime as dt
import math
import uuid

from deltalake.exceptions import DeltaError

from etl.errors import StorageError
from etl.load.delta.log import NO_HOOKS, in_store, look, said, sync_log, write_checkpoint
from etl.load.delta.parquet import read_batches
from etl.load.delta.stage import Stage
from etl.load.delta.tables import Replacement, Tables


def compact(tables: Tables, table: str, snapshot_date: dt.date) -> None:
    """Merge the files of one date into one, in a commit that replaces no rows.

    Raises:
        WarehouseError: a file is missing or damaged.
        CommitConflictError, CommitUnknownError, StorageError: as `Commit.land`.
    """
    if len(tables.files(table, snapshot_date)) > 1:
        _replace(tables, table, Replacement(snapshot_date, "run_id", ()), f"compact-{uuid.uuid4().hex}")


def drop(tables: Tables, table: str, snapshot_date: dt.date) -> None:
    """Remove all rows of a date in one commit. Their files stay for readers until `vacuum`.

    Raises:
        WarehouseError, CommitConflictError, CommitUnknownError, StorageError: as `compact`.
    """
    if files := tables.files(table, snapshot_date):
        read = (rows for file in files for rows in read_batches(tables.store, file, ["slice_id"]))
        slices = {name for rows in read for name in rows[0].to_pylist()}
        replacement = Replacement(snapshot_date, "slice_id", tuple(sorted(slices)))
        _replace(tables, table, replacement, f"drop-{uuid.uuid4().hex}")


def _replace(tables: Tables, table: str, replacement: Replacement, writer: str) -> None:
    committed = tables.read(table)
    assert committed is not None
    Stage(tables, table, committed.schema, replacement, writer).commit(f"nimble-etl/{writer}/{table}", 1)


def vacuum(tables: Tables, table: str, grace: dt.timedelta) -> int:
    """Delete data files that the table has not named for longer than `grace`, rounded up to hours, and count them.

    Also deletes log entries that a checkpoint sums up and that are older than the table keeps them (30 days).

    Raises:
        StorageError: the disk refused.
    """
    found = tables.open(table)
    if found is None:
        return 0
    store, before = tables.store, found.version()
    try:
        removed = in_store(store, table).vacuum(
            math.ceil(grace / dt.timedelta(hours=1)),
            dry_run=False,
            enforce_retention_duration=False,
            full=True,
            post_commithook_properties=NO_HOOKS,
        )
        look(store, table)
        sync_log(store, table, since=before)
        write_checkpoint(store, table)
        in_store(store, table).cleanup_metadata()
    except (DeltaError, OSError) as exc:
        raise StorageError.at(store.at(table), said(exc)) from exc
    return len(removed)
