"""Upkeep of a Delta table: fewer files, and none that nobody needs. Rows stay as they are."""

import datetime as dt
import math
import uuid

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from etl.errors import StorageError
from etl.load.delta.log import NO_HOOKS, said, sync_log, write_checkpoint
from etl.load.delta.parquet import read_batches
from etl.load.delta.stage import open_stage
from etl.load.delta.tables import Replacement, Tables


def compact(tables: Tables, table: str, snapshot_date: dt.date) -> None:
    """Write the files of one date into one, if there are several: a commit that replaces nothing.

    Raises:
        WarehouseError: a file is missing or damaged.
        CommitConflictError, CommitUnknownError, StorageError: as `Stage.commit` says.
    """
    committed = tables.read(table)
    if committed and len(committed.files.get(snapshot_date, [])) > 1:
        writer = f"compact-{uuid.uuid4().hex}"
        open_stage(tables, table, committed.schema, Replacement(snapshot_date, "run_id", ()), writer).commit(
            f"nimble-etl/{writer}/{table}", 1
        )


def drop(tables: Tables, table: str, snapshot_date: dt.date) -> None:
    """Let go of all rows of a date, in one commit; their files stay for readers until `vacuum`.

    Raises:
        CommitConflictError, CommitUnknownError, StorageError: as `Stage.commit` says.
    """
    committed = tables.read(table)
    if committed and (files := committed.files.get(snapshot_date)):
        slices = {name for file in files for rows in read_batches(file, ["slice_id"]) for name in rows[0].to_pylist()}
        writer = f"drop-{uuid.uuid4().hex}"
        replacement = Replacement(snapshot_date, "slice_id", tuple(sorted(slices)))
        open_stage(tables, table, committed.schema, replacement, writer).commit(f"nimble-etl/{writer}/{table}", 1)


def vacuum(tables: Tables, table: str, grace: dt.timedelta) -> int:
    """Remove the data files that left the table, or never became part of it, longer ago than `grace`.

    Log entries go too: those that a checkpoint sums up, when they are older than the table keeps them (30 days).

    Args:
        tables: the warehouse.
        table: its name.
        grace: rounded up to hours.

    Returns:
        How many were removed.

    Raises:
        StorageError: the disk refused.
    """
    found = tables.open(table)
    if found is None:
        return 0
    before = found.version()
    try:
        removed = found.vacuum(
            math.ceil(grace / dt.timedelta(hours=1)),
            dry_run=False,
            enforce_retention_duration=False,
            full=True,
            post_commithook_properties=NO_HOOKS,
        )
    except (DeltaError, OSError) as exc:
        raise StorageError.at(tables.path / table, said(exc)) from exc
    sync_log(tables.path / table, since=before)
    write_checkpoint(tables.path / table)
    try:
        DeltaTable(tables.path / table).cleanup_metadata()
    except (DeltaError, OSError) as exc:
        raise StorageError.at(tables.path / table, said(exc)) from exc
    return len(removed)
