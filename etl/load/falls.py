"""A guard against sudden falls: a healthy service that answers with too little is not believed without a word."""

import datetime as dt
from collections.abc import Iterable, Iterator

from etl.config import Publish
from etl.load.tables import Tables
from etl.model import RunFacts, SliceFacts

_LOOK_BACK_DATES = 30


def find_falls(
    tables: Tables, run: RunFacts, ready: Iterable[SliceFacts], limits: Publish
) -> Iterator[tuple[SliceFacts, str]]:
    """Yield the slices that have too few records to be published, each with the reason.

    A slice is compared with its last complete snapshot, this date's included, within the last 30 dates that have any.

    Args:
        tables: the warehouse.
        run: what the slices were walked for.
        ready: complete walks.
        limits: `max_fall` is a share; no records at all, after some, is always a fall.
    """
    ready = list(ready)
    last = _last_snapshots(tables, run.snapshot_date, {facts.part.slice_id for facts in ready})
    for facts in ready:
        date, before = last.get(facts.part.slice_id, (None, 0))
        missing = before - facts.records
        small = missing <= max(limits.fall_tolerance, before * limits.max_fall)
        if missing > 0 and (facts.records == 0 or not small):
            yield (
                facts,
                (
                    f"{facts.part}: {facts.records} records, its snapshot of {date} has {before}: a fall of "
                    f"{missing / before:.0%}, publish.max_fall is {limits.max_fall:.0%}; readers keep that snapshot. "
                    f"If it is right: nimble-etl replay {run.run_id} --allow-fall"
                ),
            )


def _last_snapshots(tables: Tables, until: dt.date, slice_ids: set[str]) -> dict[str, tuple[dt.date, int]]:
    """Return date and records of the last complete snapshot of each of these slices."""
    found: dict[str, tuple[dt.date, int]] = {}
    names = ["slice_id", "run_id", "records", "state", "is_published", "is_partial"]
    dates = [date for date in tables.dates("etl_slices") if date <= until]
    for date in sorted(dates, reverse=True)[:_LOOK_BACK_DATES]:
        if found.keys() >= slice_ids:
            break
        rows = [row for row in tables.rows("etl_slices", date, names) if row["slice_id"] in slice_ids]
        for row in sorted(rows, key=lambda row: str(row["run_id"]), reverse=True):
            if row["is_published"] and not row["is_partial"] and row["state"] == "complete":
                found.setdefault(row["slice_id"], (date, row["records"]))
    return found
