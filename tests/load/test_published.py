"""What the facts say was published for some dates, however many of them are summed up together."""

import datetime as dt

import pytest
from support.shapes import ARRIVED, DATE
from support.warehouse import live_files, publish_slices

from etl.load import published as module
from etl.load import snapshots
from etl.load.snapshots import newest_publications, previous_snapshots

DAYS = [DATE + dt.timedelta(days=day) for day in range(5)]


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_dates_are_summed_up_together_or_apart_with_the_same_result(anywhere, monkeypatch, at_once):
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    told = [("things", 3), ("etl_rejects", 1)]
    publish_slices(anywhere, ["a", "b"], date=DAYS[0], run="first", number=1, table_rows=told, rows=0)
    publish_slices(anywhere, ["b"], date=DAYS[0], run="second", number=2, rows=0, table_rows=[("things", 5)],
                   pages_sha256="ff", published_at=ARRIVED - dt.timedelta(days=9))  # fmt: skip
    publish_slices(anywhere, ["a"], date=DAYS[1], run="third", number=3, rows=7, rejects=2)
    publish_slices(anywhere, ["a"], date=DAYS[2], run="fourth", number=4, is_dropped=True, table_rows=told)
    publish_slices(anywhere, ["a"], date=DAYS[3], run="fifth", number=5, is_published=False)

    found, slices, first = {}, {}, {}
    for some in module.published(anywhere, DAYS):
        found |= some.by_date
        slices |= {date: dict(one.slices()) for date, one in some.by_date.items()}
        first = {**some.first, **first}

    assert [dict(found[day].rows) for day in DAYS] == [
        {"things": 8, "etl_rejects": 1}, {"things": 7, "etl_rejects": 2}, {"things": 3, "etl_rejects": 1}, {}, {}
    ]  # fmt: skip
    assert [found[day].is_counted for day in DAYS] == [True, False, True, True, True]
    assert [found[day].is_dropped for day in DAYS] == [False, False, True, False, False]
    assert [found[day].is_empty for day in DAYS] == [False, False, False, True, True]
    assert slices[DAYS[0]] == {"a": ("first", 1, None), "b": ("second", 2, "ff")}
    assert first == {"things": DAYS[1]}


@pytest.mark.on_disk
def test_a_date_whose_facts_cannot_be_read_is_left_out(anywhere):
    for number, day in enumerate(DAYS[:2]):
        publish_slices(anywhere, ["a"], date=day, run=f"run-{number}", number=number + 1)
    if anywhere.store.local:
        live_files(anywhere, "etl_slices")[0].write_bytes(b"")
        assert [list(some.by_date) for some in module.published(anywhere, DAYS[:2])] == [[DAYS[1]]]


def test_only_the_slices_that_are_looked_for_are_taken_out_of_the_facts(anywhere, monkeypatch):
    """A slice that is new has no snapshot at all, and every night is looked at for it."""
    for number, day in enumerate(DAYS):
        publish_slices(anywhere, ["a", "b", "c"], date=day, run=f"run-{number}", number=number + 1)
    taken = []

    def counted(*arguments):
        found = newest_publications(*arguments)
        taken.append(sorted(found))
        return found

    monkeypatch.setattr(snapshots, "newest_publications", counted)
    assert previous_snapshots(anywhere, DAYS[-1], ["a", "new"]) == {"a": (DAYS[-1], 1)}
    assert taken == [["a"], [], [], [], []]
