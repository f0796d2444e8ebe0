"""Marts, macros and named queries on nights that really were exported, against plain Python on the studio's events."""

import datetime as dt
import sys
from pathlib import Path

import pytest

from etl.emulator import World

sys.path.append(str(Path(__file__).parents[2]))
from benchmarks.year import compare as comparison
from benchmarks.year.build import build
from benchmarks.year.compare import compare
from benchmarks.year.observed import observe

LAST = dt.date(2026, 11, 20)
NIGHTS = [LAST - dt.timedelta(days=back) for back in (7, 6, 4, 3, 1, 0)]
"""Two of them were missed. In a world so small, some nights have no failed session at all; on these there are some."""


@pytest.fixture(scope="module")
def year(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "replaced")
        world = World(sessions_per_studio=70, daily_churn=0.1)
        yield build(tmp_path_factory.mktemp("year"), world, NIGHTS, page_size=40)


def test_every_mart_macro_and_query_agrees_with_the_events_of_the_studio(year):
    found = list(compare(year))

    assert len({world.region for world in year.worlds}) == 2
    assert [(what, difference) for what, _, difference in found if difference] == []
    assert all(rows for _, rows, _ in found), "none of them is empty"
    assert len(found) > 40


def test_the_comparison_can_fail(year, monkeypatch):
    """One session that nobody has seen on one night is noticed wherever that night counts."""

    def forgetful(world, dates):
        nights = observe(world, dates)
        running = next(key for key, record in nights[3].items() if record["state"] == "STOPPED" and key in nights[2])
        del nights[3][running]
        return nights

    monkeypatch.setattr(comparison, "INSTANTS", 0)
    monkeypatch.setattr(comparison, "observe", forgetful)

    different = {what for what, _, difference in compare(year) if difference}

    assert {"daily_states", "query nights", "query changes_by_night"} <= different


def test_a_number_that_is_rounded_differently_is_compared_with_its_own():
    """As text, 2018.9999999999998 stands before 20189.0, and 2019.0 behind it."""
    found, right = [("a", 20189.0), ("a", 2018.9999999999998)], [("a", 2019.0), ("a", 20189.0)]
    assert comparison._judge("runs", found, right) == ("runs", 2, "")
    assert comparison._judge("runs", found, [("a", 2019.0), ("a", 20189.1)])[2] != ""
