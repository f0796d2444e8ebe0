"""What the catalog answers, beside what is right."""

import datetime as dt
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import chain
from random import Random
from typing import Any

from benchmarks.year.build import Year, instant
from benchmarks.year.expected import Expected, Row
from benchmarks.year.observed import observe
from etl.jobs.warehouse import store_of
from etl.read.query import ask, bind
from etl.sqlfiles import sql_files

SUMS = (
    "running_hours * 3600, priced_hours * 3600, unpriced_hours * 3600, instance_cost, idle_hours * 3600, idle_cost,"
    " volume_days, volume_gib_days, extra_iops_days, extra_throughput_days, unpriced_volume_days, storage_cost"
)
MARTS = {
    "session_runs": "studio_id, session_id, started_at, ended_at, ending, running_seconds, ec2_instance_type, owned_by,"
    " launch_profile_id, tags",
    "session_days": "day, studio_id, session_id, started_at, running_seconds",
    "daily_hours": "day, studio_id, ec2_instance_type, owned_by, launch_profile_id, sessions, running_hours * 3600,"
    " estimated_cost, currency",
    "daily_hours_by_tag": "day, studio_id, tag, value, sessions, running_hours * 3600",
    "recent_hours": "day, days_ago, studio_id, ec2_instance_type, owned_by, running_hours * 3600",
    "volume_days": "day, studio_id, session_id, ec2_instance_type, owned_by, launch_profile_id, tags, volume_gib,"
    " volume_iops, volume_throughput",
    "idle_periods": "studio_id, session_id, started_at, idle_from, idle_until",
    "idle_days": "day, studio_id, session_id, idle_from, idle_seconds, idle_seconds_before",
    "price_periods": "*",
    "volume_periods": "first_day, last_day, studio_id, session_id, owned_by, volume_gib",
    "monthly_costs": f"month, studio_id, ec2_instance_type, owned_by, launch_profile_id, tags, currency, {SUMS}, cost",
    "session_costs": f"day, studio_id, session_id, currency, {SUMS}",
    "daily_costs": f"day, studio_id, ec2_instance_type, owned_by, launch_profile_id, currency, {SUMS}, cost",
    "daily_costs_by_tag": f"day, studio_id, tag, value, currency, {SUMS}, cost",
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
"""Columns that say where a studio is. All rows are of one account, and the id of a studio begins with its Region."""

NOT_COMPARED = {
    *("snapshots", "finished_snapshots", "complete_snapshots", "current_slices", "nights"),
    *("session_starts", "session_updates", "session_volumes", "daily_moves"),
}
"""Facts of the job, not of the studio; and what marts that are compared are made of."""

TOLERANCE = 1e-4
"""Of numbers with a fraction: sums of hours are rounded differently in another order."""

INSTANTS = 12
"""How many moments and spans the macros are asked for."""


def compare(year: Year) -> Iterator[tuple[str, int, str]]:
    """Yield (what, rows, difference) for each mart, macro and named query; no difference: it agrees."""
    store = store_of(year.settings)

    def answer(statement: str, values: Mapping[str, object] | None = None) -> list[Row]:
        """Return rows without account and Region, where the studio tells them."""
        rows = ask(store, statement, values)
        places = PLACE.intersection(rows.column_names) if "studio" in "".join(rows.column_names) else ()
        found = rows.to_pylist()
        for row in found:
            assert str(row.get("studio_id", row.get("region"))).startswith(row.get("region", "")), row
        return [tuple(value for name, value in row.items() if name not in places) for row in found]

    expected = Expected(
        {
            date: dict(chain.from_iterable(night.items() for night in nights))
            for date, *nights in zip(year.dates, *(observe(world, year.dates) for world in year.worlds), strict=True)
        },
        dict(answer("select studio_id, studio_name from studios")),
        {row[:2]: row[2] for row in answer("select studio_id, session_id, extracted_at from streaming_sessions")},
        {
            row[:2]: row[2:]
            for row in answer(
                "select parents['studioId'], snapshot_date, pages, date_diff('second', observed_from, observed_until)"
                " from etl_slices where dataset = 'streaming_sessions'"
            )
        },
        list(year.prices),
    )
    assert MARTS.keys() | NOT_COMPARED == sql_files("marts").keys() | sql_files("views").keys()
    for name, columns in MARTS.items():
        yield _judge(
            name,
            answer(f"select {columns} from {name}"),
            getattr(expected if hasattr(expected, name) else expected.costs, name)(),
        )
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
    ours, theirs = sorted(map(_split, found), key=_order), sorted(map(_split, right), key=_order)
    if len(ours) != len(theirs):
        return what, len(ours), f"{len(ours)} rows, expected {len(theirs)}"
    for one, other in zip(ours, theirs, strict=True):
        close = len(one[1]) == len(other[1]) and all(
            math.isclose(a, b, abs_tol=getattr(b, "within", TOLERANCE)) for a, b in zip(one[1], other[1], strict=True)
        )
        if one[0] != other[0] or not close:
            return what, len(ours), f"found {one}, expected {other}"
    return what, len(ours), ""


def _order(split: tuple[Row, tuple[float, ...]]) -> tuple[str, tuple[float, ...]]:
    """Return what rows are sorted by. The same number, rounded differently, stands at the same place."""
    return repr(split[0]), tuple(round(number, 2) for number in split[1])


def _split(row: Row) -> tuple[Row, tuple[float, ...]]:
    """Return a row without its numbers that have a fraction, and those; what is whole counts as such."""
    values = tuple(map(_plain, row))
    exact = tuple("number" if isinstance(value, float) else value for value in values)
    return exact, tuple(value for value in values if isinstance(value, float))


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat()
    if isinstance(value, dict):
        return tuple(sorted(value.items()))
    if isinstance(value, list):
        return tuple(sorted(value))
    return value
