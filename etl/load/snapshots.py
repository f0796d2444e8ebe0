"""Which complete snapshots a slice has, found in the facts about past runs."""

import datetime as dt
from collections.abc import Iterable

from etl.load.delta.tables import Tables


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
