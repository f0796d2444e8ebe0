"""The complete snapshots of each slice, from the facts about past runs, and the slices that have lost too much."""

import datetime as dt
from collections import deque
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import pyarrow as pa

from etl.config import Publish
from etl.errors import WarehouseError
from etl.load.changes import CHANGE
from etl.load.delta.parquet import fill
from etl.load.delta.tables import Committed, Tables
from etl.model import RunFacts, Shard, SliceFacts
from etl.outcome import RESUMABLE

_COLUMNS = pa.schema(
    [
        ("snapshot_date", pa.date32()),
        *((name, pa.string()) for name in ("slice_id", "dataset", "run_id", "state", "pages_sha256")),
        *((name, pa.bool_()) for name in ("is_published", "is_partial", "is_filtered", "is_dropped")),
        *((name, pa.int64()) for name in ("publication", "records", "rows", "rejects", "duplicates")),
        ("published_at", pa.timestamp("us", "UTC")),
        ("table_rows", pa.map_(pa.string(), pa.int64())),
    ]
)
_LATER = {"publication", "pages_sha256", "table_rows", "is_dropped"}
"""Columns that former versions have not written."""


def previous_snapshots(tables: Tables, until: dt.date, slice_ids: Iterable[str]) -> dict[str, tuple[dt.date, int]]:
    """Return slice id -> (date, rows) of the newest complete snapshot on or before a date.

    Slices without one are left out. Looks back without limit: if an old snapshot were missed, every session would be
    logged as new.
    """
    dates = [date for date in tables.dates("etl_slices") if date <= until]
    return _first_found(tables, sorted(dates, reverse=True), set(slice_ids))


def next_snapshots(tables: Tables, after: dt.date, slice_ids: Iterable[str]) -> dict[str, tuple[dt.date, int]]:
    """Return slice id -> (date, rows) of the oldest complete snapshot after a date."""
    return _first_found(tables, [date for date in tables.dates("etl_slices") if date > after], set(slice_ids))


def last_pages(tables: Tables) -> dict[str, int]:
    """Return slice id -> number of pages on the newest date; nothing if that cannot be read."""
    found: dict[str, int] = {}
    with suppress(WarehouseError):  # a job has said so when it began
        for date in tables.dates("etl_slices")[-1:]:
            for batch in tables.batches("etl_slices", date, ["slice_id", "pages"]):
                found.update(zip(batch["slice_id"].to_pylist(), batch["pages"].to_pylist(), strict=True))
    return found


def after_rejects(
    tables: Tables, date: dt.date, slice_ids: Iterable[str], anyway: Container[tuple[dt.date, str]] = ()
) -> Iterator[tuple[dt.date, dict[str, dt.date | None]]]:
    """Yield the snapshots after a date whose changes depend on what was before it, as records were rejected on it.

    They are dates with slice id -> date of the snapshot before, in the order in which they must be compared. Of those
    that are compared `anyway` (date, slice id), and of what follows them, nothing is yielded.
    """
    waiting = deque([(date, {*slice_ids})])
    while waiting:
        before, names = waiting.popleft()
        rejected = {row["slice_id"] for row in tables.rows("etl_rejects", before, ["slice_id"])} & names
        following: dict[dt.date, dict[str, dt.date | None]] = {}
        for name, (later, _) in next_snapshots(tables, before, rejected).items():
            if (later, name) not in anyway:
                following.setdefault(later, {})[name] = before
        for later, previous_dates in sorted(following.items()):
            yield later, previous_dates
            waiting.append((later, {*previous_dates}))


def empty_snapshots(
    tables: Tables, table: Committed, dates: Iterable[dt.date | None]
) -> Container[tuple[dt.date, str]]:
    """Return the (date, slice id) of snapshots that have no rows, on those dates of which a table has no file.

    Retention has removed the rows of the other snapshots of such a date.
    """
    return {
        (date, slice_id)
        for date in dates
        if date and date not in table.files
        for slice_id, row in newest_publications(tables, date).items()
        if row["rows"] == 0
    }


def find_falls(
    tables: Tables, run: RunFacts, ready: Iterable[tuple[SliceFacts, int]], limits: Publish
) -> Iterator[tuple[SliceFacts, str]]:
    """Yield the slices of a run that must be held back because they lost too many rows, each with the reason.

    `ready` has the slices, each with the number of rows that readers would see: a record that is rejected is none. A
    slice is compared with its last complete snapshot, up to the date of the run. It is held back if it lost more than
    the share `max_fall` of its rows and more than `fall_tolerance` rows, or all of them.
    """
    ready = list(ready)
    last = previous_snapshots(tables, run.snapshot_date, (facts.slice.slice_id for facts, _ in ready))
    for facts, rows in ready:
        date, before = last.get(facts.slice.slice_id, (None, 0))
        missing = before - rows
        small = missing <= max(limits.fall_tolerance, before * limits.max_fall)
        if missing > 0 and (rows == 0 or not small):
            listed = f" of {facts.records} records" if facts.records != rows else ""
            reason = (
                f"{facts.slice}: {rows} rows{listed}, its snapshot of {date} has {before}: a fall of "
                f"{missing / before:.0%}, publish.max_fall is {limits.max_fall:.0%}; readers keep that snapshot. "
                f"If the new number is right: nimble-etl replay {run.run_id} --allow-fall"
            )
            yield facts, reason


def unended_shards(tables: Tables, date: dt.date, shard: Shard) -> list[str]:
    """Return the shards of a night that have not ended, as etl_runs says; none if there is only one.

    A shard has ended if a run of it has, whatever it could not publish. Who holds the lock of the warehouse knows that
    no other shard ends meanwhile.
    """
    if not shard.text:
        return []
    rows = tables.rows("etl_runs", date, ["shard", "exit_code"])
    ended = {row.get("shard") for row in rows if row["exit_code"] != RESUMABLE}
    night = (f"{number}/{shard.count}" for number in range(1, shard.count + 1))
    return [one for one in night if one not in ended]


def has_slices(table: Committed) -> bool:
    """Tell whether a table holds rows of the snapshots of a dataset, and not facts or a change log."""
    names = table.schema.names
    return not table.name.startswith("etl_") and "slice_id" in names and CHANGE not in names


def newest_publications(
    tables: Tables, date: dt.date, only: Collection[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Return slice id -> row of etl_slices of the newest publication for a date: whose rows readers see.

    `only` are the ids of the slices that are wanted; None: all. Columns that came later are null where a former version
    has written the rows.

    Raises:
        WarehouseError: a file of the table is missing or damaged.
    """
    found = slices_of(tables, date)
    if only is not None:
        import pyarrow.compute as pc  # noqa: PLC0415  so that `status` is quick

        found = found.filter(pc.is_in(found["slice_id"], pa.array(list(only), pa.string())))
    published = [row for row in found.to_pylist() if row["is_published"]]
    return {row["slice_id"]: row for row in sorted(published, key=_order)}


def slices_of(tables: Tables, date: dt.date) -> pa.Table:
    """Return what `etl_slices` says about the slices of a date, published or not. Python has 15 times as much to hold.

    Raises:
        WarehouseError: a file of the table is missing or damaged.
    """
    batches = []
    for batch in tables.batches("etl_slices", date, _COLUMNS.names):
        if missing := {*_COLUMNS.names} - {*batch.schema.names, "snapshot_date"} - _LATER:
            raise WarehouseError(
                f"table etl_slices, {date}: its file has no {', '.join(sorted(missing))}; "
                f"`nimble-etl replay --since {date}` writes it again from the ledgers"
            )
        batches.append(fill(batch, _COLUMNS, {"snapshot_date": date}))
    return pa.Table.from_batches(batches, _COLUMNS)


def _first_found(tables: Tables, dates: Iterable[dt.date], slice_ids: set[str]) -> dict[str, tuple[dt.date, int]]:
    """Return slice id -> (date, rows) of the first of some dates that has a complete snapshot of the slice."""
    found: dict[str, tuple[dt.date, int]] = {}
    wanted = set(slice_ids)
    for date in dates:
        if not wanted:
            break
        for slice_id, row in newest_publications(tables, date, wanted).items():
            if row["state"] == "complete" and not row["is_partial"]:
                found[slice_id] = (date, row["rows"])
                wanted.remove(slice_id)
    return found


def _order(row: Mapping[str, Any]) -> tuple[int, dt.datetime]:
    """Return what tells which of two publications of a slice and date is the newer: files of old have no number."""
    return row["publication"] or 0, row["published_at"]
