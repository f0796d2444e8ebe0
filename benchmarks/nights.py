"""Many nights of one studio, as if they had been exported one after the other, without walking them.

One night is exported. Those before it are that night with a hundredth of its sessions changed, another one each time:
with the hundredth that changes back, two nights in a row differ in two of a hundred sessions. They are written
through the job's own stages and commits.
"""

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.load.delta.stage import Stage
from etl.load.delta.tables import Replacement, Tables
from etl.storage.disk import Disk

PARTS = 100
_CHANGED = pa.scalar("START_IN_PROGRESS")


def spend_nights(warehouse: Path, seed: Path, last: dt.date, count: int) -> None:
    """Fill a warehouse with nights before a date.

    Args:
        warehouse: empty.
        seed: warehouse of one exported night.
        last: the date after the last night.
        count: how many nights.
    """
    exported = _read(Tables(Disk(seed)))
    with mock.patch("os.fsync"):  # a power loss may take it
        _spend(warehouse, exported, last, count)


def _spend(warehouse: Path, exported: Mapping[str, pa.Table], last: dt.date, count: int) -> None:
    sessions = exported["streaming_sessions"]
    part_of = pa.array([i % PARTS for i in range(sessions.num_rows)])
    for night in range(count):
        tables = Tables(Disk(warehouse))  # every night is a process of its own
        date = last - dt.timedelta(days=count - night)
        run_id = f"{date:%Y%m%d}T020000Z-{night:06x}"
        changed = pc.equal(part_of, pa.scalar(night % PARTS))
        names = sessions.schema.names
        later = sessions.set_column(
            names.index("state"), "state", pc.if_else(changed, _CHANGED, sessions["state"].combine_chunks())
        )
        rows = {**exported, "streaming_sessions": later, "streaming_session_changes": _changes(exported, later, night)}
        if night:
            del rows["studio_changes"]  # a studio stays as it is
        for table, found in rows.items():
            key = "run_id" if table.startswith("etl_") and table != "etl_rejects" else "slice_id"
            values = tuple(set(found[key].to_pylist())) if key == "slice_id" else (run_id,)
            stage = Stage(tables, table, found.schema, Replacement(date, key, values), run_id)
            for batch in _dated(found, date, run_id, is_first=not night).to_batches():
                stage.write(batch)
            stage.commit(f"nimble-etl/{run_id}/{table}", 1)


def _read(tables: Tables) -> dict[str, pa.Table]:
    """Return the rows of every table of one night."""
    found = {}
    for name in tables.names():
        committed = tables.read(name)
        assert committed is not None
        files = [file for files in committed.files.values() for file in files]
        rows = [pq.ParquetFile(file).read() for file in files]
        columns = [field for field in committed.schema if field.name != "snapshot_date"]
        whole = pa.concat_tables(
            [*(table.cast(pa.schema(columns)) for table in rows), pa.schema(columns).empty_table()]
        )
        dates = pa.nulls(whole.num_rows, committed.schema.field("snapshot_date").type)
        place = committed.schema.names.index("snapshot_date")
        found[name] = whole.add_column(place, committed.schema.field("snapshot_date"), dates).combine_chunks()
    return found


def _changes(exported: Mapping[str, pa.Table], later: pa.Table, night: int) -> pa.Table:
    """Return what the change log says of a night: the part that changes and the one that changes back."""
    log = exported["streaming_session_changes"]
    log = log.set_column(log.schema.names.index("state"), "state", later["state"])
    if not night:
        return log
    part_of = pa.array([i % PARTS for i in range(log.num_rows)])
    is_changed = pc.equal(part_of, pa.scalar(night % PARTS))
    was = pc.if_else(is_changed, exported["streaming_sessions"]["state"].combine_chunks(), _CHANGED).to_pylist()
    columns = {
        "change": ["changed"] * log.num_rows,
        "changed_columns": [["state"]] * log.num_rows,
        "old_values": [[("state", json.dumps(state))] for state in was],
    }
    for name, values in columns.items():
        place = log.schema.names.index(name)
        log = log.set_column(place, log.schema.field(place), pa.array(values, log.schema.types[place]))
    return log.filter(pc.or_(is_changed, pc.equal(part_of, pa.scalar((night - 1) % PARTS))))


def _dated(rows: pa.Table, date: dt.date, run_id: str, *, is_first: bool) -> pa.Table:
    """Return rows as those of another date and run."""
    before = None if is_first else date - dt.timedelta(days=1)
    at = dt.datetime.combine(date, dt.time(2), dt.UTC)
    instants = (
        "extracted_at",
        "published_at",
        "observed_from",
        "observed_until",
        "started_at",
        "finished_at",
        "received_at",
    )
    values = {"snapshot_date": date, "run_id": run_id, "previous_date": before, **dict.fromkeys(instants, at)}
    if "ec2_instance_type" in rows.schema.names:
        del values["started_at"]  # of the session
    for place, field in enumerate(rows.schema):
        if field.name in values:
            column = pa.repeat(pa.scalar(values[field.name], field.type), rows.num_rows)
            rows = rows.set_column(place, field, column)
    return rows
