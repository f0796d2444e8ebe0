"""The complete snapshots of each slice, from the facts about past runs, and the slices that have lost too much."""

import datetime as dt
from collections.abc import Iterable, Iterator
from operator import itemgetter

from etl.config import Publish
from etl.load.delta.tables import Tables
from etl.model import RunFacts, SliceFacts


def previous_snapshots(tables: Tables, until: dt.date, slice_ids: Iterable[str]) -> dict[str, tuple[dt.date, int]]:
    """Return slice id -> (date, distinct records) of the newest complete snapshot on or before a date.

    Slices without one are left out. Looks back without limit: if an old snapshot were missed, every session would be
    logged as new.
    """
    dates = [date for date in tables.dates("etl_slices") if date <= until]
    return _first_found(tables, sorted(dates, reverse=True), set(slice_ids))


def next_snapshots(tables: Tables, after: dt.date, slice_ids: Iterable[str]) -> dict[str, tuple[dt.date, int]]:
    """Return slice id -> (date, distinct records) of the oldest complete snapshot after a date."""
    return _first_found(tables, [date for date in tables.dates("etl_slices") if date > after], set(slice_ids))


def find_falls(
    tables: Tables, run: RunFacts, ready: Iterable[SliceFacts], limits: Publish
) -> Iterator[tuple[SliceFacts, str]]:
    """Yield the slices of a run that must be held back because they lost too many records, each with the reason.

    A slice is compared with its last complete snapshot, up to the date of the run. It is held back if it lost more than
    the share `max_fall` of its records and more than `fall_tolerance` records, or all of them.
    """
    ready = list(ready)
    last = previous_snapshots(tables, run.snapshot_date, (facts.slice.slice_id for facts in ready))
    for facts in ready:
        date, before = last.get(facts.slice.slice_id, (None, 0))
        missing = before - facts.records
        small = missing <= max(limits.fall_tolerance, before * limits.max_fall)
        if missing > 0 and (facts.records == 0 or not small):
            reason = (
                f"{facts.slice}: {facts.records} records, its snapshot of {date} has {before}: a fall of "
                f"{missing / before:.0%}, publish.max_fall is {limits.max_fall:.0%}; readers keep that snapshot. "
                f"If the new number is right: nimble-etl replay {run.run_id} --allow-fall"
            )
            yield facts, reason


def _first_found(tables: Tables, dates: Iterable[dt.date], slice_ids: set[str]) -> dict[str, tuple[dt.date, int]]:
    found: dict[str, tuple[dt.date, int]] = {}
    names = ["slice_id", "published_at", "records", "duplicates", "state", "is_published", "is_partial"]
    for date in dates:
        if found.keys() >= slice_ids:
            break
        rows = [row for row in tables.rows("etl_slices", date, names) if row["slice_id"] in slice_ids]
        complete = [row for row in rows if row["is_published"] and not row["is_partial"] and row["state"] == "complete"]
        for row in sorted(complete, key=itemgetter("published_at"), reverse=True):
            found.setdefault(row["slice_id"], (date, row["records"] - row["duplicates"]))
    return found
