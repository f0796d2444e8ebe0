"""Which complete snapshots a slice has, found in the facts about past runs; and slices that lost too much since."""

import datetime as dt
from collections.abc import Iterable, Iterator

from etl.config import Publish
from etl.load.delta.tables import Tables
from etl.model import RunFacts, SliceFacts


def previous_snapshots(tables: Tables, until: dt.date, slice_ids: Iterable[str]) -> dict[str, tuple[dt.date, int]]:
    """Return date and distinct records of the newest complete snapshot of each slice up to a date, that date included.

    However long ago that is: taken for a first one, a snapshot would count every session once more. Slices that have
    none are left out; to know that, all dates are looked at.
    """
    dates = [date for date in tables.dates("etl_slices") if date <= until]
    return _first_found(tables, sorted(dates, reverse=True), set(slice_ids))


def next_snapshots(tables: Tables, after: dt.date, slice_ids: Iterable[str]) -> dict[str, tuple[dt.date, int]]:
    """Return date and distinct records of the oldest complete snapshot of each slice after a date."""
    return _first_found(tables, sorted(date for date in tables.dates("etl_slices") if date > after), set(slice_ids))


def find_falls(
    tables: Tables, run: RunFacts, ready: Iterable[SliceFacts], limits: Publish
) -> Iterator[tuple[SliceFacts, str]]:
    """Yield the slices that have too few records to be published, each with the reason.

    A slice is compared with its last complete snapshot, this date's included.

    Args:
        tables: the warehouse.
        run: what the slices were walked for.
        ready: complete walks.
        limits: `max_fall` is a share; no records at all, after some, is always a fall.
    """
    ready = list(ready)
    last = previous_snapshots(tables, run.snapshot_date, (facts.slice.slice_id for facts in ready))
    for facts in ready:
        date, before = last.get(facts.slice.slice_id, (None, 0))
        missing = before - facts.records
        small = missing <= max(limits.fall_tolerance, before * limits.max_fall)
        if missing > 0 and (facts.records == 0 or not small):
            yield (
                facts,
                (
                    f"{facts.slice}: {facts.records} records, its snapshot of {date} has {before}: a fall of "
                    f"{missing / before:.0%}, publish.max_fall is {limits.max_fall:.0%}; readers keep that snapshot. "
                    f"If it is right: nimble-etl replay {run.run_id} --allow-fall"
                ),
            )


def _first_found(tables: Tables, dates: Iterable[dt.date], slice_ids: set[str]) -> dict[str, tuple[dt.date, int]]:
    found: dict[str, tuple[dt.date, int]] = {}
    names = ["slice_id", "published_at", "records", "duplicates", "state", "is_published", "is_partial"]
    for date in dates:
        if found.keys() >= slice_ids:
            break
        rows = [
            row
            for row in tables.rows("etl_slices", date, names)
            if row["slice_id"] in slice_ids
            and row["is_published"]
            and not row["is_partial"]
            and row["state"] == "complete"
        ]
        for row in sorted(rows, key=lambda row: row["published_at"], reverse=True):
            found.setdefault(row["slice_id"], (date, row["records"] - row["duplicates"]))
    return found
