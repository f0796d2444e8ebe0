"""What the catalog answers, beside what is right."""

import datetime as dt
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from random import Random
from typing import Any

from benchmarks.year.build import Year, instant
from benchmarks.year.expected import Expected, Row
from benchmarks.year.observed import observe
from etl.jobs.warehouse import store_of
from etl.read.query import ask, bind
from etl.sqlfiles import sql_files

MARTS = {
    "session_runs": "studio_id, session_id, started_at, ended_at, ending, running_seconds, ec2_instance_type, owned_by,"
    " launch_profile_id, tags",
    "session_days": "day, studio_id, session_id, started_at, running_seconds",
    "daily_hours": "day, studio_id, ec2_instance_type, owned_by, launch_profile_id, sessions, running_hours * 3600,"
    " estimated_cost, currency",
    "daily_hours_by_tag": "day, studio_id, tag, value, sessions, running_hours * 3600",
    "recent_hours": "day, days_ago, studio_id, ec2_instance_type, owned_by, running_hours * 3600",
    "daily_states": "*",
    "idle_times": "*",
    "planned_ends": "*",
    "storage_held": "*",
    "session_lifetimes": "studio_id, session_id, owned_by, created_at, first_started_at, wait_seconds, first_seen,"
    " last_seen, is_listed, life_seconds, runs, running_seconds",
    "failures": "*",
    "tag_usage": "*",
    "studio_names": "*",
}
"""Mart -> the columns that are compared, in the order of the rows of `Expected`."""

PLACE = frozenset({"account_id", "region"})
"""Columns that say where a studio is: all rows of the year have the same."""

NOT_COMPARED = {"snapshots", "finished_snapshots", "complete_snapshots", "current_slices", "nights"}
"""Facts of the job, not of the studio."""

TOLERANCE = 1e-4
"""Of numbers with a fraction: sums of hours are rounded differently in another order."""

INSTANTS = 12
"""How many moments and spans the macros are asked for."""


def compare(year: Year) -> Iterator[tuple[str, int, str]]:
    """Yield (what, rows, difference) for each mart, macro and named query; no difference: it agrees."""
    store = store_of(year.settings)

    def answer(statement: str, values: Mapping[str, object] | None = None) -> list[Row]:
        """Return rows without account and Region, which all rows share."""
        rows = ask(store, statement, values)
        if places := PLACE.intersection(rows.column_names):
            assert rows.group_by([*places]).aggregate([]).num_rows <= 1, "all is of one account and Region"
            rows = rows.drop_columns([*places])
        return [tuple(row.values()) for row in rows.to_pylist()]

    expected = Expected(
        dict(zip(year.dates, observe(year.world, year.dates), strict=True)),
        dict(answer("select studio_id, studio_name from studios")),
        {row[:2]: row[2] for row in answer("select studio_id, session_id, extracted_at from streaming_sessions")},
        {
            row[:2]: row[2:]
            for row in answer(
                "select parents['studioId'], snapshot_date, pages, date_diff('second', observed_from, observed_until)"
                " from etl_slices where dataset = 'streaming_sessions'"
            )
        },
    )
    assert MARTS.keys() | NOT_COMPARED == sql_files("marts").keys() | sql_files("views").keys()
    for name, columns in MARTS.items():
        yield _judge(name, answer(f"select {columns} from {name}"), getattr(expected, name)())
    sessions = Counter(key[1] for _, key, *_ in expected.changes)
    queries = expected.queries(sessions.most_common(1)[0][0])
    assert queries.keys() == sql_files("queries").keys()
    for name, (given, rows) in queries.items():
        file = sql_files("queries")[name]
        yield _judge(f"query {name}", answer(file.text, bind(file, given)), rows)
    chance = Random(7)
    for _ in range(INSTANTS):
        first, last = sorted(chance.choices(year.dates, k=2))
        at = instant(first) + dt.timedelta(seconds=chance.randrange(-7200, 79_000))
        found = answer(f"select studio_id, session_id, state, updated_at, tags from streaming_sessions_as_of('{at}')")
        yield _judge(f"as of {at}", found, expected.as_of(at))
        between = f"streaming_session_changes_between('{first}', '{last}')"
        found = answer(f"select snapshot_date, studio_id, session_id, change from {between}")
        yield _judge(f"changes between {first} and {last}", found, expected.changes_between(first, last))


def _judge(what: str, found: Iterable[Row], right: Iterable[Row]) -> tuple[str, int, str]:
    ours, theirs = sorted(map(_split, found), key=repr), sorted(map(_split, right), key=repr)
    if len(ours) != len(theirs):
        return what, len(ours), f"{len(ours)} rows, expected {len(theirs)}"
    for one, other in zip(ours, theirs, strict=True):
        close = len(one[1]) == len(other[1]) and all(
            math.isclose(a, b, abs_tol=TOLERANCE) for a, b in zip(one[1], other[1], strict=True)
        )
        if one[0] != other[0] or not close:
            return what, len(ours), f"found {one}, expected {other}"
    return what, len(ours), ""


def _split(row: Row) -> tuple[Row, tuple[float, ...]]:
    """Return a row without its numbers that have a fraction, and those; what is whole counts as such."""
    values = tuple(map(_plain, row))
    exact = tuple("number" if isinstance(value, float) else value for value in values)
    return exact, tuple(value for value in values if isinstance(value, float))


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat()
    if isinstance(value, dict):
        return tuple(sorted(value.items()))
    if isinstance(value, list):
        return tuple(sorted(value))
    return value
