"""Which snapshot of a slice is the one before: facts about past runs say it."""

import datetime as dt

from support.shapes import ARRIVED, DATE
from support.warehouse import publish_slices

from etl.load.snapshots import newest_publications, next_snapshots, previous_snapshots


def test_the_snapshot_before_is_found_however_long_ago_it_was(anywhere):
    """A studio that failed for months comes back: taken for new, all its sessions would appear a second time."""
    publish_slices(anywhere, ["a", "b"], date=DATE, run="first", records=7, duplicates=2, rows=5)
    for day in range(1, 71):
        publish_slices(anywhere, ["a"], date=DATE + dt.timedelta(days=day), run=f"run-{day}")
    last = DATE + dt.timedelta(days=70)

    assert previous_snapshots(anywhere, last, ["a", "b", "new"]) == {"a": (last, 1), "b": (DATE, 5)}
    assert next_snapshots(anywhere, DATE, ["a", "b"]) == {"a": (DATE + dt.timedelta(days=1), 1)}


def test_only_complete_published_snapshots_count(anywhere):
    publish_slices(anywhere, ["a"], date=DATE, run="whole")
    for day, change in enumerate(({"is_partial": True}, {"is_published": False}, {"state": "failed"}), start=1):
        publish_slices(anywhere, ["a"], date=DATE + dt.timedelta(days=day), run=f"run-{day}", **change)

    assert previous_snapshots(anywhere, DATE + dt.timedelta(days=9), ["a"]) == {"a": (DATE, 1)}


def test_of_two_publications_the_higher_number_counts_whatever_the_clock_says(anywhere):
    earlier = ARRIVED - dt.timedelta(days=400)
    publish_slices(anywhere, ["a"], run="first", number=1, rows=7)
    publish_slices(anywhere, ["a"], run="second", number=2, rows=3, published_at=earlier)

    assert newest_publications(anywhere, DATE)["a"]["run_id"] == "second"
    assert previous_snapshots(anywhere, DATE, ["a"]) == {"a": (DATE, 3)}
