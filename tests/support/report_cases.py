"""Rows for the files of sql/report that tell of studios, weeks and costs, and what they must answer of them."""

import datetime as dt
from decimal import Decimal

import pytest

from support.sql_cases import CHANGES, RUNS, SESSIONS, SLICES, WORKSTATIONS, placed

D = dt.date
HELD = """
create table streaming_sessions (
    studio_id varchar, slice_id varchar, session_id varchar, volume_configuration_size integer
);
insert into streaming_sessions values ('s1', 'x', 'a', null), ('s1', 'x', 'b', 1), ('s2', 'y', 'a', null);
""" + placed("streaming_sessions")
"""Two studios; s1 is the larger."""
DAYS = """
create table nights as
select
    date '2026-11-20' - days::integer as snapshot_date,
    days::integer as nights_ago,
    days::integer as complete_nights_ago
from range(16) as given (days);
"""
HOURS = """
create table recent_hours (
    days_ago integer, studio_id varchar, ec2_instance_type varchar, owned_by varchar, running_hours double
);
insert into recent_hours values
    (1, 's1', 'g5.xlarge', 'ann', 10.04), (2, 's2', 'g5.xlarge', 'eve', 4), (3, 's2', 'g5.xlarge', null, 7),
    (30, 's1', 'g4dn.xlarge', 'ann', 1), (31, 's1', 'g3.xlarge', 'ann', 99);
""" + placed("recent_hours")
WEEKS = (
    HELD
    + DAYS
    + """
create table daily_states as
select date::date as snapshot_date, studio as studio_id, state, sessions, gib as volume_gib
from (values
    ('2026-11-20', 's1', 'READY', 3, 1024), ('2026-11-20', 's1', 'STOPPED', 2, 1024),
    ('2026-11-19', 's1', 'READY', 100, 1), ('2026-11-13', 's1', 'READY', 4, 512), ('2026-11-06', 's1', 'READY', 9, 1),
    ('2026-11-14', 's2', 'READY', 7, 2048)
) as given (date, studio, state, sessions, gib);
create table recent_hours (days_ago integer, studio_id varchar, running_hours double);
insert into recent_hours values (1, 's1', 10), (7, 's1', 5), (8, 's1', 20), (14, 's1', 1), (15, 's1', 500);
create table failures as
select date::date as snapshot_date, studio as studio_id, failures
from (values
    ('2026-11-20', 's1', 2), ('2026-11-14', 's1', 1), ('2026-11-13', 's1', 5), ('2026-11-06', 's1', 100)
) as given (date, studio, failures);
"""
    + placed("daily_states", "recent_hours", "failures")
)
COSTS = (
    HELD
    + DAYS
    + """
create table daily_costs (
    day date, studio_id varchar, owned_by varchar, currency varchar, instance_cost decimal(28, 8),
    idle_cost decimal(28, 8), storage_cost decimal(28, 8), cost decimal(28, 8), unpriced_hours double
);
insert into daily_costs values
    ('2026-11-20', 's1', 'ann', 'USD', 100, 100, 100, 200, 0),  -- a day that is not over
    ('2026-11-19', 's1', 'ann', 'USD', 4, 1, 2, 6, 0),
    ('2026-11-19', 's1', 'ann', null, null, null, null, null, 2.5),  -- no price holds
    ('2026-11-13', 's1', 'ann', 'USD', 2, 0.5, null, 2, 1.5),
    ('2026-11-12', 's1', 'ben', 'USD', 3, 1, 1, 4, 0),
    ('2026-11-12', 's2', 'eve', 'EUR', 5, null, null, 5, 0);
"""
    + placed("daily_costs")
    + """
create table daily_costs_by_tag as select * exclude (owned_by), 'Project' as tag, owned_by as value from daily_costs;
"""
)


def money(*values):
    return tuple(value if value is None else Decimal(value) for value in values)


ANN = money("6.00", "1.50", "2.00", "8.00")
BEN = money("3.00", "1.00", "1.00", "4.00")
EVE = money("5.00", None, None, "5.00")
REPORT_CASES = {
    ("queries", "largest_studios"): (
        WORKSTATIONS,
        {},
        "from answer",
        [("1", "r", "s1", 4, 800), ("1", "r", "s2", 1, 0)],
    ),
    ("report", "states_by_night"): (
        RUNS + HELD,
        {"nights": "3"},  # nobody saw all of it on the 20th
        "from answer",
        [(D(2026, 11, 19), "1", "r", "s1", 1, 1, 0, 1, 0), (D(2026, 11, 21), "1", "r", "s1", 1, 0, 1, 1, 0)],
    ),
    ("report", "hours_by_instance_type"): (
        HOURS + HELD,
        {"rows": "2"},  # what is 31 days ago is in none
        "from answer",
        [
            ("g5.xlarge", "1", "r", "s1", 10.04),
            ("g5.xlarge", "1", "r", "s2", 11.0),
            ("g4dn.xlarge", "1", "r", "s1", 1.0),
        ],
    ),
    ("report", "hours_by_studio"): (
        f"{RUNS}{HELD} update streaming_session_changes set studio_id = 's2' where session_id = 'b'",
        {"days": "3"},
        "from answer",
        [
            (D(2026, 11, 18), "1", "r", "s1", pytest.approx(10 + 0.5 / 3600)),
            (D(2026, 11, 18), "1", "r", "s2", 24.0),
            (D(2026, 11, 19), "1", "r", "s1", 12.0),
            (D(2026, 11, 20), "1", "r", "s1", 24.0),
        ],
    ),
    ("report", "top_owners"): (
        HOURS + HELD,
        {"rows": "2"},
        "from answer",
        [("ann", "1", "r", "s1", 11.04), (None, "1", "r", "s2", 7.0)],
    ),
    ("report", "idle_times"): (
        SESSIONS,
        {},
        "select studio_id, sessions from answer where span in ('4 to 12 hours', '12 to 24 hours', '1 to 3 days')",
        [("s1", 1), ("s2", 0), ("s1", 1), ("s2", 0), ("s1", 0), ("s2", 1)],
    ),
    ("report", "planned_ends"): (
        WORKSTATIONS,
        {"days": "2"},
        "from answer",
        [
            ("within 24 hours", "1", "r", "s1", 1, 1),
            ("within 24 hours", "1", "r", "s2", 0, 0),
            ("in 1 to 2 days", "1", "r", "s1", 0, 1),
            ("in 1 to 2 days", "1", "r", "s2", 0, 0),
        ],
    ),
    ("report", "storage_by_night"): (
        (
            f"{RUNS}{HELD} update streaming_session_changes set slice_id = 'y' where session_id = 'c';"
            " insert into snapshots"
            " select * replace ('y' as slice_id, map {'studioId': 's2'} as parents) from snapshots"
        ),
        {"nights": "3"},
        "from answer",
        [
            (D(2026, 11, 19), "1", "r", "s1", 500 / 1024),
            (D(2026, 11, 19), "1", "r", "s2", 100 / 1024),
            (D(2026, 11, 21), "1", "r", "s1", 800 / 1024),
            (D(2026, 11, 21), "1", "r", "s2", 100 / 1024),
        ],
    ),
    ("report", "storage_by_owner"): (
        (
            f"{WORKSTATIONS} update streaming_sessions set owned_by = 'ann', volume_configuration_size = 1"
            " where studio_id = 's2'"
        ),
        {"rows": "1"},
        "from answer",
        [("ann", "1", "r", "s1", 700), ("ann", "1", "r", "s2", 1)],
    ),
    ("report", "changes_by_night"): (
        (
            f"{CHANGES}{HELD} alter table snapshots"
            " add column parents map(varchar, varchar) default map {'studioId': 's1'};"
        ),
        {"nights": "3"},
        "from answer",
        [
            (D(2026, 11, 19), "1", "r", "s1", 1, 1, 0),
            (D(2026, 11, 20), "1", "r", "s1", 0, 1, 1),
            (D(2026, 11, 21), "1", "r", "s1", 0, 0, 0),
        ],
    ),
    ("report", "week"): (
        WEEKS,
        {},
        "from answer",
        [
            ("1", "r", "s1", 5, 4, 2.0, 0.5, 15.0, 21.0, 3, 5, 7),
            ("1", "r", "s2", 7, None, 2.0, None, 0.0, 0.0, 0, 0, 7),
        ],
    ),
    ("report", "costs_of_week"): (
        COSTS,
        {},
        "from answer",
        [
            ("1", "r", "s1", "USD", *money(8, 4, "1.5", 1), 7),
            ("1", "r", "s1", None, 0, 0, 0, 0, 7),
            ("1", "r", "s2", "EUR", 0, 5, 0, 0, 7),
        ],
    ),
    ("report", "costs_by_day"): (
        COSTS,
        {},
        "from answer",
        [
            (D(2026, 11, 12), "1", "r", "s1", "USD", 4),
            (D(2026, 11, 12), "1", "r", "s2", "EUR", 5),
            (D(2026, 11, 13), "1", "r", "s1", "USD", 2),
            (D(2026, 11, 19), "1", "r", "s1", "USD", 6),
            (D(2026, 11, 19), "1", "r", "s1", None, 0),
        ],
    ),
    ("report", "costs_by_studio"): (
        COSTS,
        {},
        "from answer",
        [
            ("1", "r", "s1", "USD", *money("9.00", "2.50", "3.00", "12.00"), 1.5, 2),
            ("1", "r", "s2", "EUR", *EVE, 0.0, 2),
        ],
    ),
    ("report", "costs_by_region"): (
        COSTS,
        {"rows": "1"},
        "from answer",
        [("r", "USD", *money("9.00", "2.50", "3.00", "12.00"), 1.5, 2)],
    ),
    ("report", "costs_by_owner"): (
        COSTS,
        {"rows": "3"},
        "from answer",
        [
            ("1", "r", "s1", "ann", "USD", *ANN, 1.5, 3),
            ("1", "r", "s2", "eve", "EUR", *EVE, 0.0, 3),
            ("1", "r", "s1", "ben", "USD", *BEN, 0.0, 3),
        ],
    ),
    ("report", "costs_by_tag"): (
        COSTS,
        {"days": "7"},
        "from answer",
        [("1", "r", "s1", "Project", "ann", "USD", *ANN, 1.5, 1)],
    ),
    ("report", "dataset_growth"): (
        (
            f"{SLICES} insert into etl_runs values ('2026-11-10', 'run0');"
            " insert into etl_slices"
            " select * replace (date '2026-11-10' as snapshot_date, 'run0' as run_id, 30 as records)"
            " from etl_slices where run_id = 'run1' and slice_id = 'y';"
        ),
        {},
        "from answer",
        [("streaming_sessions", 3, D(2026, 11, 20), 33, 30, 3, 1)],  # x 12, y 20, z 1
    ),
    ("report", "dataset_records"): (
        SLICES,
        {"nights": "2"},
        "from answer",
        [("streaming_sessions", D(2026, 11, 19), 12), ("streaming_sessions", D(2026, 11, 20), 1)],
    ),
    ("report", "rejects"): (
        (
            f"{DAYS} create table etl_rejects (snapshot_date date, dataset varchar, reason varchar);"
            " insert into etl_rejects values ('2026-11-20', 'a', 'no date'), ('2026-11-20', 'a', 'no date'),"
            " ('2026-11-20', 'b', 'no date'), ('2026-11-18', 'a', 'long ago')"
        ),
        {"nights": "2"},
        "from answer",
        [(D(2026, 11, 20), "a", "no date", 2, 2), (D(2026, 11, 20), "b", "no date", 1, 2)],
    ),
    ("report", "stopped_sessions"): (
        WORKSTATIONS,
        {},
        "from answer",
        [("1", "r", "s1", "b", "ben", 14, 100, 1)],  # c is a second short of it; the other one has no volume
    ),
    ("report", "failed_sessions"): (
        WORKSTATIONS,
        {},
        "select * exclude (updated_at) from answer",
        [("1", "r", "s1", "d", "ann", "START_FAILED", "NETWORK", 1)],
    ),
    ("report", "untagged_sessions"): (
        WORKSTATIONS,
        {},
        "from answer",
        [("1", "r", "s1", "d", "ann", "START_FAILED", None, 1)],
    ),
    ("report", "use_by_studio"): (
        WORKSTATIONS + HOURS,
        {},
        "from answer",
        [("1", "r", "s1", 4, 2, 11.0, 800, 2), ("1", "r", "s2", 1, 1, 11.0, 0, 2)],
    ),
    ("report", "use_by_region"): (
        WORKSTATIONS + HOURS,
        {},
        "from answer",
        [("r", 2, 5, 22.0, 800, 1)],
    ),
    ("report", "use_by_owner"): (
        WORKSTATIONS + HOURS,
        {"rows": "3"},
        "from answer",
        [
            ("1", "r", "s1", "ann", 11.0, 700, 4),
            ("1", "r", "s2", None, 7.0, 0, 4),
            ("1", "r", "s2", "eve", 4.0, 0, 4),
        ],
    ),
    ("report", "hours_by_tag"): (
        (
            f"{DAYS} create table daily_hours_by_tag as select date::date as day, 's1' as studio_id, 'Project' as tag,"
            " project as value, hours as running_hours from (values"
            " ('2026-11-20', 'moon', 50.0), ('2026-11-19', 'moon', 2.5), ('2026-11-18', 'moon', 1.0),"
            " ('2026-11-18', 'sun', 1.0), ('2026-11-17', 'sun', 9.0)) as given (date, project, hours);"
            + placed("daily_hours_by_tag")
        ),
        {"days": "2"},  # the newest day is not over
        "from answer",
        [("1", "r", "s1", "Project", "moon", 3.5, 2), ("1", "r", "s1", "Project", "sun", 1.0, 2)],
    ),
}
"""Kind and name of a file -> rows given, parameters, what to look at, and what must be there."""
