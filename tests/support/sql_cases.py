"""Rows for the files of sql/, and what each of the files must answer of them."""

import datetime as dt
from decimal import Decimal

import pytest


def placed(*tables):
    """Return statements that put the rows of some tables into account 1 and Region r."""
    return "\n".join(
        f"alter table {table} add column account_id varchar default '1';"
        f" alter table {table} add column region varchar default 'r';"
        for table in tables
    )


SESSIONS = """
create table streaming_sessions (
    studio_id varchar, slice_id varchar, session_id varchar, owned_by varchar, ec2_instance_type varchar, state varchar,
    updated_at timestamptz, extracted_at timestamptz, volume_configuration_size integer
);
insert into streaming_sessions values
    ('s1', 'x', 'a', 'ann', 'g5.xlarge', 'READY', '2026-11-19 14:00:00Z', '2026-11-20 02:00:00Z', 500),
    ('s1', 'x', 'b', 'ben', 'g5.xlarge', 'READY', '2026-11-19 14:00:01Z', '2026-11-20 02:00:00Z', null),
    ('s1', 'x', 'c', 'ann', 'g5.xlarge', 'STOPPED', '2026-11-01 00:00:00Z', '2026-11-20 02:00:00Z', 100),
    ('s2', 'y', 'a', 'eve', 'g4dn.xlarge', 'READY', '2026-11-18 02:00:00Z', '2026-11-20 02:00:00Z', 100);
alter table streaming_sessions add column snapshot_date date default '2026-11-20';
alter table streaming_sessions add column started_at timestamptz;
create table studios (studio_id varchar, studio_name varchar);
insert into studios values ('s1', 'nightfall');
create table streaming_session_tags (slice_id varchar, session_id varchar, key varchar, value varchar);
insert into streaming_session_tags values
    ('x', 'a', 'Project', 'moon'), ('x', 'a', 'project', 'sun'), ('x', 'c', 'Project', 'moon'),
    ('y', 'a', 'Project', '');
""" + placed("streaming_sessions", "studios")
SLICES = """
create table etl_slices (
    snapshot_date date, run_id varchar, slice_id varchar, dataset varchar, account_id varchar, region varchar,
    parents map(varchar, varchar), is_filtered boolean, state varchar, is_published boolean, is_partial boolean,
    published_at timestamptz,
    pages integer, records bigint, rows bigint, rejects bigint, duplicates bigint,
    observed_from timestamptz, observed_until timestamptz
);
insert into etl_slices
select
    date::date, run_id, slice_id, 'streaming_sessions', '1', 'r', map {'studioId': studio}, filtered, state, published,
    partial, date::timestamp + interval 1 hour * hour, 2, records, records, 0, 0, date::timestamp + interval 2 hour,
    date::timestamp + interval '2 hour 30 second'
from (values
    ('2026-11-18', 'run1', 'x', 's1', false, 'complete', true, false, 10, 1),
    ('2026-11-19', 'run2', 'x', 's1', false, 'complete', true, false, 12, 4),
    ('2026-11-19', 'run3', 'x', 's1', false, 'complete', true, false, 11, 3),
    ('2026-11-20', 'run4', 'x', 's1', false, 'walking', true, true, 3, 4),
    ('2026-11-20', 'run5', 'z', 's1', true, 'complete', true, false, 1, 5),
    ('2026-11-18', 'run1', 'y', 's2', false, 'complete', true, false, 20, 1),
    ('2026-11-19', 'run2', 'y', 's2', false, 'failed', false, false, 0, 2)
) as given (date, run_id, slice_id, studio, filtered, state, published, partial, records, hour);
alter table etl_slices add column publication bigint;
create table etl_runs as select distinct snapshot_date, run_id from etl_slices;
"""
WORKSTATIONS = """
create table streaming_sessions (
    studio_id varchar, slice_id varchar, session_id varchar, owned_by varchar, ec2_instance_type varchar, state varchar,
    status_code varchar, status_message varchar, created_at timestamptz, started_at timestamptz,
    stop_at timestamptz, stopped_at timestamptz,
    terminate_at timestamptz, updated_at timestamptz, extracted_at timestamptz, volume_configuration_size integer,
    volume_configuration_iops integer, volume_configuration_throughput integer
);
insert into streaming_sessions
select
    studio, slice, session, owner, type, state, code, code, '2026-11-01 00:00:00Z', null, stop::timestamptz,
    stopped::timestamptz, terminate::timestamptz, '2026-11-20 01:00:00Z', '2026-11-20 02:00:00Z', gib, gib * 10, 125
from (values
    ('s1', 'x', 'a', 'ann', 'g5.xlarge', 'READY', null, '2026-11-20 03:00:00Z', null, '2026-11-21 02:00:00Z', 500),
    ('s1', 'x', 'b', 'ben', 'g5.xlarge', 'STOPPED', null, null, '2026-11-06 02:00:00Z', '2026-11-20 02:30:59.9Z', 100),
    ('s1', 'x', 'c', 'ann', 'g5.xlarge', 'STOPPED', null, null, '2026-11-06 02:00:01Z', null, 200),
    ('s1', 'x', 'd', 'ann', 'g4dn.xlarge', 'START_FAILED', 'NETWORK', '2026-11-20 02:00:00Z', null, null, null),
    ('s2', 'y', 'a', 'eve', 'g5.xlarge', 'STOPPED', null, null, '2026-10-01 00:00:00Z', null, null)
) as given (studio, slice, session, owner, type, state, code, stop, stopped, terminate, gib);
alter table streaming_sessions add column snapshot_date date default '2026-11-20';
create table streaming_session_tags (slice_id varchar, session_id varchar, key varchar, value varchar);
insert into streaming_session_tags values
    ('x', 'a', 'Project', 'moon'), ('x', 'b', 'Project', 'sun'), ('x', 'c', 'project', 'moon'), ('y', 'a', 'Name', '');
""" + placed("streaming_sessions")
CHANGES = """
create table streaming_session_changes (
    snapshot_date date, previous_date date, studio_id varchar, session_id varchar, change varchar,
    changed_columns varchar[], old_values map(varchar, varchar), state varchar
);
insert into streaming_session_changes values
    ('2026-11-18', null, 's1', 'a', 'appeared', null, null, 'READY'),
    ('2026-11-19', '2026-11-18', 's1', 'a', 'changed', ['state'], map {'state': '"READY"'}, 'STOPPED'),
    ('2026-11-19', '2026-11-18', 's1', 'b', 'appeared', null, null, 'READY'),
    ('2026-11-20', '2026-11-19', 's1', 'a', 'changed', ['owned_by'], map {'owned_by': '"ann"'}, 'STOPPED'),
    ('2026-11-20', '2026-11-19', 's1', 'b', 'vanished', null, null, 'READY');
create table snapshots (
    dataset varchar, snapshot_date date, state varchar, is_partial boolean, is_filtered boolean
);
insert into snapshots values
    ('streaming_sessions', '2026-11-18', 'complete', false, false),
    ('streaming_sessions', '2026-11-19', 'complete', false, false),
    ('streaming_sessions', '2026-11-20', 'complete', false, false),
    ('streaming_sessions', '2026-11-21', 'complete', false, false),  -- nothing changed
    ('streaming_sessions', '2026-11-22', 'walking', true, false),
    ('streaming_sessions', '2026-11-22', 'complete', true, false),  -- its walk began at a starting token
    ('streaming_sessions', '2026-11-22', 'complete', false, true),
    ('studios', '2026-11-23', 'complete', false, false);
create table etl_runs as select distinct snapshot_date from snapshots;
""" + placed("streaming_session_changes", "snapshots")
VERSIONS = """
create table streaming_sessions_versions (
    valid_from date, valid_to date, slice_id varchar, studio_id varchar, session_id varchar, state varchar,
    status_code varchar, owned_by varchar, ec2_instance_type varchar, created_at timestamptz, started_at timestamptz,
    stopped_at timestamptz, volume_configuration_size integer
);
insert into streaming_sessions_versions
select
    date::date, until::date, 'x', 's1', session, state, null, 'ann', 'g5.xlarge', created::timestamptz,
    started::timestamptz, null, 500
from (values
    ('2026-11-19', '2026-11-20', 'a', 'CREATE_IN_PROGRESS', '2026-11-19 00:00:00Z', null),
    ('2026-11-20', null, 'a', 'READY', '2026-11-19 00:00:00Z', '2026-11-19 00:10:00Z'),
    ('2026-11-20', null, 'b', 'READY', '2026-11-19 00:00:00Z', '2026-11-19 00:20:30Z'),
    ('2026-11-20', null, 'c', 'READY', '2026-11-01 00:00:00Z', '2026-11-10 00:00:00Z')
) as given (date, until, session, state, created, started);
""" + placed("streaming_sessions_versions")
BAD = "-- and now what must not be"
"""In the rows given to a check: those above make it pass."""

RUNS = """
create table streaming_session_changes (
    snapshot_date date, previous_date date, change varchar, old_values map(varchar, varchar), changed_columns varchar[],
    slice_id varchar, studio_id varchar, session_id varchar, state varchar, status_code varchar, owned_by varchar,
    ec2_instance_type varchar, launch_profile_id varchar, created_at timestamptz, started_at timestamptz,
    stopped_at timestamptz, tags map(varchar, varchar), volume_configuration_size integer,
    volume_configuration_iops integer, volume_configuration_throughput integer, updated_at timestamptz
);
insert into streaming_session_changes
select
    date::date, previous::date, change, old, map_keys(old), 'x', 's1', session, state, code, owner, 'g5.xlarge', 'p1',
    created::timestamptz, started::timestamptz, stopped::timestamptz, tags, gib, gib * 10, gib,
    coalesce(started, created)::timestamptz + interval 5 minute
from (values
    -- a: stopped twice between two snapshots, still running at the newest; its owner changed in its first run, its
    -- volume grew after it
    ('2026-11-18', null, 'appeared', null, 'a', 'READY', null, 'ann', '2026-11-17 20:00:00Z',
        '2026-11-17 22:00:00Z', null, map {'Project': 'moon'}, 500),
    ('2026-11-19', '2026-11-18', 'changed', map {'state': '"READY"', 'owned_by': '"ann"'}, 'a', 'STOPPED', null, 'ben',
        '2026-11-17 20:00:00Z', '2026-11-17 22:00:00Z', '2026-11-18 10:00:00.5Z',
        map {'Project': 'sun', 'Shot': '1'}, 500),
    ('2026-11-21', '2026-11-19', 'changed', map {
            'state': '"STOPPED"', 'volume_configuration_size': '500', 'volume_configuration_iops': '5000',
            'volume_configuration_throughput': '500'
        }, 'a', 'READY', null, 'ben', '2026-11-17 20:00:00Z', '2026-11-19 12:00:00Z', '2026-11-18 10:00:00.5Z',
        map {'Project': 'sun'}, 700),
    -- b: vanished while it ran; the night of the 20th failed, so that nothing was seen of it then
    ('2026-11-18', null, 'appeared', null, 'b', 'READY', null, 'ann', '2026-11-01 00:00:00Z',
        '2026-11-17 12:00:00Z', '2026-11-16 12:00:00Z', null, null),
    ('2026-11-21', '2026-11-19', 'vanished', null, 'b', 'READY', null, 'ann', '2026-11-01 00:00:00Z',
        '2026-11-17 12:00:00Z', '2026-11-16 12:00:00Z', null, null),
    -- c: failed at two starts
    ('2026-11-18', null, 'appeared', null, 'c', 'START_FAILED', 'NETWORK', 'ann', '2026-11-17 01:00:00Z',
        '2026-11-17 02:00:00Z', null, map {}, 100),
    ('2026-11-19', '2026-11-18', 'changed', map {'started_at': '"2026-11-17 02:00:00+00"'}, 'c', 'START_FAILED',
        'NETWORK', 'ann', '2026-11-17 01:00:00Z', '2026-11-18 02:00:00Z', null, map {}, 100),
    -- d: never started
    ('2026-11-21', '2026-11-19', 'appeared', null, 'd', 'CREATE_IN_PROGRESS', null, 'eve', '2026-11-21 01:59:00Z',
        null, null, null, 100)
) as given (date, previous, change, old, session, state, code, owner, created, started, stopped, tags, gib);
create table prices (
    item varchar, ec2_instance_type varchar, region varchar, valid_from date, price decimal(16, 10), currency varchar
);
create table snapshots as
select
    'x' as slice_id, date::date as snapshot_date, map {'studioId': 's1'} as parents, 'streaming_sessions' as dataset,
    '1' as account_id, 'r' as region, 'complete' as state, partial as is_partial, false as is_filtered,
    'run1' as run_id, 4 as rows, null as observed_from, null as observed_until, null as published_at,
    null as publication
from (values ('2026-11-18', false), ('2026-11-19', false), ('2026-11-20', true), ('2026-11-21', false))
    as given (date, partial);
create table etl_runs as select snapshot_date from snapshots;
""" + placed("streaming_session_changes")
PRICED = RUNS + "insert into prices values ('instance_hour', 'g5.xlarge', null, null, 2.0, 'USD');"
COSTS = (
    RUNS
    + """
insert into prices values
    ('instance_hour', 'g5.xlarge', null, null, 2.0, 'USD'),
    ('instance_hour', 'g5.xlarge', 'r', '2026-11-19', 3.0, 'EUR'),
    ('instance_hour', 'g5.xlarge', null, '2026-11-20', 9.0, 'USD'),  -- the Region has a price of its own
    ('instance_hour', 'g5.xlarge', 'elsewhere', null, 8.0, 'USD'),
    ('instance_hour', 'g5.2xlarge', null, null, 7.0, 'USD'),
    ('volume_gib_month', null, null, null, 0.01, 'USD'),
    ('volume_gib_month', null, null, '2026-11-01', 0.08, 'USD'),
    ('volume_gib_month', null, null, '2026-10-01', 0.02, 'USD'),
    ('volume_gib_month', null, 'r', '2026-11-19', 0.09, 'EUR'),
    ('volume_iops_month', null, 'r', '2026-11-19', 0.005, 'EUR');
update streaming_session_changes set ec2_instance_type = 'g3.xlarge' where session_id = 'b';
"""
)
"""Prices that change on the 19th, together with their currency. b, of another type, has none; nor have MiB/s."""
LONG_AGO = """
insert into streaming_session_changes
select * replace ('e' as session_id, timestamptz '0001-01-01 00:00:00Z' as started_at)
from streaming_session_changes
where session_id = 'b';
"""
"""A start that cannot be."""
TWIN = """
insert into streaming_session_changes
select * replace ('f' as session_id)
from streaming_session_changes
where session_id = 'a' and snapshot_date < '2026-11-20';
insert into streaming_session_changes
select * replace (
    date '2026-11-21' as snapshot_date, date '2026-11-19' as previous_date, 900 as volume_configuration_size,
    ['volume_configuration_size'] as changed_columns, map {'volume_configuration_size': '500'} as old_values
)
from streaming_session_changes where session_id = 'f' and change = 'changed';
"""
"""A session that changes as another one does, then by itself: its volume only."""
LISTED = """
create table streaming_sessions (
    snapshot_date date, studio_id varchar, slice_id varchar, session_id varchar, created_at timestamptz,
    started_at timestamptz, stopped_at timestamptz, updated_at timestamptz, stop_at timestamptz,
    terminate_at timestamptz, volume_configuration_size integer, volume_configuration_iops integer,
    volume_configuration_throughput integer, tags map(varchar, varchar)
);
create table streaming_session_tags (studio_id varchar, slice_id varchar, session_id varchar, key varchar);
create table studios (studio_id varchar);
insert into studios values ('s1');
insert into streaming_sessions values
    ('2026-11-20', 's1', 'x', 'a', '2026-11-20 01:00:00Z', '2026-11-20 01:00:00Z', '2026-11-20 01:00:00Z',
        '2026-11-20 01:00:00Z', '2026-11-20 01:00:00Z', '2026-11-20 01:00:00Z', 100, 3000, 125, map {'a': '1'}),
    ('2026-11-20', 's1', 'x', 'b', '2026-11-20 01:00:00Z', null, null, null, null, null, 16000, 16000, 1000, map {}),
    ('2026-11-20', 's1', 'x', 'c', '2026-11-20 01:00:00Z', null, null, null, null, null, null, null, null, null);
insert into streaming_session_tags values ('s1', 'x', 'a', 'a');
""" + placed("streaming_sessions", "streaming_session_tags", "studios")


def one_more(**columns):
    """Return the statements that add a session like c, but for some columns, to the rows given to a check."""
    replaced = ", ".join(f"{value} as {name}" for name, value in {"session_id": "'e'", **columns}.items())
    return (
        f"{LISTED}{BAD}\ninsert into streaming_sessions select * replace ({replaced})"
        " from streaming_sessions where session_id = 'c';"
    )


LEDGER = """
create table streaming_sessions (slice_id varchar);
insert into streaming_sessions values ('x'), ('x'), ('x');
create table current_slices (
    run_id varchar, slice_id varchar, dataset varchar, account_id varchar, region varchar,
    parents map(varchar, varchar), snapshot_date date
);
insert into current_slices values ('r2', 'x', 'streaming_sessions', '1', 'r', map {'studioId': 's1'}, '2026-11-20');
create table snapshots (
    dataset varchar, slice_id varchar, snapshot_date date, rows bigint, state varchar, is_partial boolean
);
insert into snapshots values
    ('streaming_sessions', 'x', '2026-11-18', 900, 'complete', false),
    ('streaming_sessions', 'x', '2026-11-19', 100, 'complete', false),
    ('streaming_sessions', 'x', '2026-11-19', 9, 'walking', true);
create table etl_slices (
    run_id varchar, slice_id varchar, dataset varchar, snapshot_date date, attempt integer, rows bigint,
    records bigint, rejects bigint, duplicates bigint, drift varchar[]
);
insert into etl_slices values
    ('r1', 'x', 'streaming_sessions', '2026-11-19', 1, 9, 9, 0, 0, ['state: old']),
    ('r2', 'x', 'streaming_sessions', '2026-11-20', 2, 3, 6, 1, 2, []);
create table etl_pages (run_id varchar, slice_id varchar, attempt integer, kept integer);
insert into etl_pages values ('r2', 'x', 1, 99), ('r2', 'x', 2, 4), ('r2', 'x', 2, 2);
""" + placed("snapshots", "etl_slices")
NIGHTS = """
create table etl_runs (
    snapshot_date date, run_id varchar, started_at timestamptz, exit_code integer, seconds double, retries bigint,
    invocations integer
);
insert into etl_runs values
    ('2026-11-18', 'r1', '2026-11-18 02:00:00Z', 0, 99, 0, 1),
    ('2026-11-19', 'r2', '2026-11-19 02:00:00Z', 5, 10, 3, 2),
    ('2026-11-19', 'r3', '2026-11-19 08:00:00Z', 0, 5.5, 1, 1),
    ('2026-11-20', 'r4', '2026-11-20 02:00:00Z', 5, 7, 0, 1);
create table etl_slices (
    snapshot_date date, run_id varchar, slice_id varchar, dataset varchar, parents map(varchar, varchar), state varchar,
    is_published boolean, published_at timestamptz, attempt integer, records bigint, rejects bigint, error varchar,
    is_partial boolean, is_filtered boolean
);
insert into etl_slices
select date::date, run, slice, 'streaming_sessions', map {'studioId': slice}, state, published,
    (date || ' 03:00:00Z')::timestamptz + to_hours(attempt), attempt, records, rejects, error, false, false
from (values
    ('2026-11-18', 'r1', 'x', 'failed', false, 1, 1, 0, 'long ago'),
    ('2026-11-19', 'r2', 'x', 'complete', true, 1, 100, 1, null),
    ('2026-11-19', 'r2', 'y', 'failed', false, 1, 20, 0, 'denied'),
    ('2026-11-19', 'r3', 'x', 'complete', true, 3, 110, 2, null),
    ('2026-11-19', 'r3', 'y', 'complete', true, 1, 50, 0, null),
    ('2026-11-20', 'r4', 'x', 'walking', false, 1, 10, 0, null)
) as given (date, run, slice, state, published, attempt, records, rejects, error);
alter table etl_slices add column publication bigint;
""" + placed("etl_slices")
D = dt.date
M = Decimal
near = pytest.approx
ALWAYS, NEVER = D(1, 1, 1), D(9999, 12, 31)
NO_PRICE = "without a price are not part of the cost"
CASES = {
    ("report", "nights"): (
        NIGHTS,
        {"nights": "2"},
        "from answer",
        [(D(2026, 11, 19), 0, 15.5, 160, 2, 4, 2, 1, 1), (D(2026, 11, 20), 5, 7, 0, 0, 0, 0, 0, 0)],
    ),
    ("report", "unfinished_walks"): (
        NIGHTS,
        {"nights": "2", "rows": "2"},
        "from answer",
        [
            (D(2026, 11, 20), "streaming_sessions", "x", "walking", None, 2),
            (D(2026, 11, 19), "streaming_sessions", "y", "failed", "denied", 2),
        ],
    ),
    ("report", "failed_checks"): (
        (
            "create table etl_checks (check_name varchar, severity varchar, failures bigint, meaning varchar);"
            " insert into etl_checks values ('b', 'warning', 1, 'B.'), ('a', 'error', 0, 'A.'), ('c', 'error', 2, 'C.')"
        ),
        {},
        "from answer",
        [("c", "error", 2, "C."), ("b", "warning", 1, "B.")],
    ),
    ("report", "idle_sessions"): (
        SESSIONS,
        {"hours": "12", "rows": "1"},
        "from answer",
        [("1", "r", "s2", "a", "eve", "g4dn.xlarge", 48, 2)],  # b is a second short of it
    ),
    ("report", "ending_sessions"): (
        WORKSTATIONS,
        {"hours": "24", "rows": "2"},
        "select session_id, ending, ends_at::varchar, total from answer",
        [("b", "terminate", "2026-11-20 02:30:59.9+00", 2), ("a", "stop", "2026-11-20 03:00:00+00", 2)],
    ),
    ("report", "changes_last_night"): (
        (
            f"{CHANGES} delete from snapshots where snapshot_date = '2026-11-21';"
            " alter table snapshots add column parents map(varchar, varchar) default map {'studioId': 's1'};"
            " insert into snapshots"
            " select dataset, date::date, state, false, filtered, '1', 'r', map {'studioId': studio}"
            " from (from snapshots where snapshot_date = '2026-11-18'), (values"
            " ('2026-11-20', 's2', false),"  # nothing changed
            " ('2026-11-19', 's3', false),"  # its walk failed since
            " ('2026-11-20', 's4', true)) as given (date, studio, filtered)"
        ),
        {},
        "from answer",
        [("1", "r", "s1", 0, 1, 1, 2), ("1", "r", "s2", 0, 0, 0, 2)],
    ),
    ("views", "studio_names"): (
        (
            "create table studios (studio_id varchar, studio_name varchar); insert into studios values"
            " ('s1', 'moon'), ('s2', 'sun'), ('s3', 'sun'), ('s4', null), ('s5', '');" + placed("studios")
        ),
        {},
        "from answer order by all",
        [("1", "r", "s1", "moon"), ("1", "r", "s2", "sun s2"), ("1", "r", "s3", "sun s3")],
    ),
    ("queries", "storage_by_owner"): (
        WORKSTATIONS,
        {},
        "from answer",
        [("1", "r", "s1", "ann", 2, 700, 7000, 250), ("1", "r", "s1", "ben", 1, 100, 1000, 125)],
    ),
    ("queries", "sessions_by_instance_type"): (
        WORKSTATIONS,
        {},
        "from answer",
        [
            ("1", "r", "s1", "g5.xlarge", 3, 1),
            ("1", "r", "s1", "g4dn.xlarge", 1, 0),
            ("1", "r", "s2", "g5.xlarge", 1, 0),
        ],
    ),
    ("queries", "ending_sessions"): (
        WORKSTATIONS,
        {"hours": "24"},
        "select session_id, ending, minutes_left from answer",
        [("b", "terminate", 30), ("a", "stop", 60)],  # a terminates when the 24 hours are over; d has failed
    ),
    ("queries", "failed_sessions"): (
        WORKSTATIONS,
        {},
        "select session_id, state, status_code from answer",
        [("d", "START_FAILED", "NETWORK")],
    ),
    ("queries", "untagged_sessions"): (
        WORKSTATIONS,
        {"tag": "Project"},
        "select studio_id, session_id from answer",
        [("s1", "c"), ("s1", "d"), ("s2", "a")],
    ),
    ("queries", "tag_coverage"): (
        WORKSTATIONS,
        {},
        "from answer",
        [
            ("1", "r", "s1", "Project", 2, 0.5, 2),
            ("1", "r", "s1", "project", 1, 0.25, 1),
            ("1", "r", "s2", "Name", 1, 1.0, 1),
        ],
    ),
    ("queries", "stopped_sessions"): (
        WORKSTATIONS,
        {"days": "14"},
        "select session_id, days_stopped, volume_gib from answer",
        [("b", 14, 100)],  # c is a second short of it, the other holds no volume
    ),
    ("queries", "waits_to_start"): (
        RUNS,
        {},
        "from answer",
        [
            ("1", "r", "s1", "g5.xlarge", 2, 90.0, 120.0)
        ],  # b was started before any snapshot: nobody saw its first start
    ),
    ("queries", "session_history"): (
        VERSIONS,
        {"session_id": "a"},
        "select valid_from, valid_to, state from answer",
        [(D(2026, 11, 19), D(2026, 11, 20), "CREATE_IN_PROGRESS"), (D(2026, 11, 20), None, "READY")],
    ),
    ("queries", "changes_by_night"): (
        CHANGES,
        {"nights": "2"},
        "from answer",
        [(D(2026, 11, 20), "1", "r", "s1", 0, 1, 1)],
    ),
    ("queries", "state_changes"): (
        CHANGES,
        {"nights": "3"},
        "from answer",
        [("READY", "STOPPED", 1)],
    ),
    ("queries", "idle_sessions"): (
        SESSIONS,
        {"hours": "12"},
        "select session_id, idle_hours, volume_gib from answer",
        [("a", 48, 100), ("a", 12, 500)],  # b is a second short of it
    ),
    ("queries", "sessions_by_state"): (
        SESSIONS,
        {},
        "from answer",
        [
            ("1", "r", "nightfall", "READY", 2, 500),
            ("1", "r", "nightfall", "STOPPED", 1, 100),
            ("1", "r", "s2", "READY", 1, 100),
        ],
    ),
    ("queries", "sessions_by_tag"): (
        SESSIONS,
        {"tag": "Project"},
        "from answer",
        [("moon", 2, 1), ("", 1, 1), (None, 1, 1)],
    ),
    ("queries", "nights"): (
        SLICES,
        {"nights": "2"},
        "select snapshot_date, studio_id, records, walk_seconds from answer order by 1 desc, 3",
        [(D(2026, 11, 20), "s1", 1, 30), (D(2026, 11, 20), "s1", 3, 30), (D(2026, 11, 19), "s1", 12, 30)],
    ),
    ("views", "snapshots"): (
        SLICES,
        {},
        "select snapshot_date, run_id, slice_id from answer order by all",
        [
            (D(2026, 11, 18), "run1", "x"),
            (D(2026, 11, 18), "run1", "y"),
            (D(2026, 11, 19), "run2", "x"),  # begun earlier, published later
            (D(2026, 11, 20), "run4", "x"),
            (D(2026, 11, 20), "run5", "z"),
        ],
    ),
    ("views", "finished_snapshots"): (
        SLICES,
        {},
        "select snapshot_date, slice_id, records from answer order by all",
        [
            (D(2026, 11, 18), "x", 10),
            (D(2026, 11, 18), "y", 20),
            (D(2026, 11, 19), "x", 12),
            (D(2026, 11, 20), "z", 1),
        ],
    ),
    ("views", "complete_snapshots"): (
        SLICES,
        {},
        "select snapshot_date, slice_id, records from answer order by all",
        [(D(2026, 11, 18), "x", 10), (D(2026, 11, 18), "y", 20), (D(2026, 11, 19), "x", 12)],
    ),
    ("marts", "current_slices"): (
        SLICES,
        {},
        "select parents['studioId'], slice_id, snapshot_date from answer order by all",
        [("s1", "x", D(2026, 11, 19)), ("s2", "y", D(2026, 11, 18))],
    ),
    ("marts", "nights"): (
        f"{CHANGES} insert into etl_runs values ('2026-11-25');",  # the night of the 24th was missed
        {},
        "from answer order by all",
        [
            (D(2026, 11, 18), 7, 3),
            (D(2026, 11, 19), 6, 2),
            (D(2026, 11, 20), 5, 1),
            (D(2026, 11, 21), 4, 0),
            (D(2026, 11, 22), 3, None),
            (D(2026, 11, 23), 2, None),
            (D(2026, 11, 25), 0, None),
        ],
    ),
    ("views", "recent_hours"): (
        f"{PRICED} update snapshots set is_partial = true where snapshot_date in ('2026-11-18', '2026-11-21')",
        {},
        "from answer order by all",
        [
            (D(2026, 11, 18), 1, "1", "r", "s1", "g5.xlarge", "ann", 24.0),
            (D(2026, 11, 18), 1, "1", "r", "s1", "g5.xlarge", "ben", pytest.approx(10 + 0.5 / 3600)),
        ],
    ),
    ("marts", "session_starts"): (
        RUNS,
        {},
        (
            "select session_id, started_at::varchar, stopped_at::varchar, has_failed, first_date, last_date, last_seen,"
            " last_change, previous_date, owned_by from answer order by session_id, first_date"
        ),
        [
            (
                *("a", "2026-11-17 22:00:00+00", "2026-11-18 10:00:00.5+00", False),
                *(D(2026, 11, 18), D(2026, 11, 19), D(2026, 11, 18), "changed", D(2026, 11, 18), "ben"),
            ),
            (
                *("a", "2026-11-19 12:00:00+00", None, False),
                *(D(2026, 11, 21), D(2026, 11, 21), None, "changed", D(2026, 11, 19), "ben"),
            ),
            (
                *("b", "2026-11-17 12:00:00+00", None, False),
                *(D(2026, 11, 18), D(2026, 11, 21), D(2026, 11, 19), "vanished", D(2026, 11, 19), "ann"),
            ),
            (
                *("c", "2026-11-17 02:00:00+00", None, True),
                *(D(2026, 11, 18), D(2026, 11, 18), D(2026, 11, 18), "appeared", None, "ann"),
            ),
            (
                *("c", "2026-11-18 02:00:00+00", None, True),
                *(D(2026, 11, 19), D(2026, 11, 19), None, "changed", D(2026, 11, 18), "ann"),
            ),
            ("d", None, None, False, D(2026, 11, 21), D(2026, 11, 21), None, "appeared", D(2026, 11, 19), "eve"),
        ],
    ),
    ("marts", "session_updates"): (
        RUNS,
        {},
        ("select session_id, started_at::varchar, updated_at::varchar, last_date, is_newest from answer order by all"),
        [
            ("a", "2026-11-17 22:00:00+00", "2026-11-17 22:05:00+00", D(2026, 11, 18), False),
            ("a", "2026-11-19 12:00:00+00", "2026-11-19 12:05:00+00", None, True),
            ("b", "2026-11-17 12:00:00+00", "2026-11-17 12:05:00+00", D(2026, 11, 19), False),
        ],
    ),
    ("marts", "session_volumes"): (
        RUNS,
        {},
        "select session_id, first_day, last_day, owned_by, tags::varchar, volume_gib from answer order by all",
        [
            ("a", D(2026, 11, 18), D(2026, 11, 18), "ann", "{Project=moon}", 500),
            ("a", D(2026, 11, 19), D(2026, 11, 20), "ben", "{Project=sun, Shot=1}", 500),
            ("a", D(2026, 11, 21), None, "ben", "{Project=sun}", 700),
            ("c", D(2026, 11, 18), None, "ann", "{}", 100),
            ("d", D(2026, 11, 21), None, "eve", None, 100),
        ],
    ),
    ("marts", "daily_moves"): (
        RUNS,
        {},
        "select snapshot_date, slice_id, state, sessions, volume_gib, volume_iops from answer order by all",
        [
            (D(2026, 11, 18), "x", "READY", 2, 500, 5000),
            (D(2026, 11, 18), "x", "START_FAILED", 1, 100, 1000),
            (D(2026, 11, 19), "x", "READY", -1, -500, -5000),
            (D(2026, 11, 19), "x", "START_FAILED", 0, 0, 0),
            (D(2026, 11, 19), "x", "STOPPED", 1, 500, 5000),
            (D(2026, 11, 21), "x", "CREATE_IN_PROGRESS", 1, 100, 1000),
            (D(2026, 11, 21), "x", "READY", 0, 700, 7000),
            (D(2026, 11, 21), "x", "STOPPED", -1, -500, -5000),
        ],
    ),
    ("marts", "session_runs"): (
        RUNS,
        {},
        (
            "select session_id, started_at::varchar, ended_at::varchar, ending, running_seconds, owned_by,"
            " tags::varchar from answer order by started_at"
        ),
        [
            # to 00:00 of the last date that shows it, the stop of another run notwithstanding
            ("b", "2026-11-17 12:00:00+00", "2026-11-19 00:00:00+00", "unseen", 36 * 3600, "ann", None),
            (
                "a",
                "2026-11-17 22:00:00+00",
                "2026-11-18 10:00:00.5+00",
                "stopped",
                12 * 3600 + 0.5,
                "ben",
                "{Project=sun, Shot=1}",
            ),
            ("a", "2026-11-19 12:00:00+00", "2026-11-21 00:00:00+00", "running", 36 * 3600, "ben", "{Project=sun}"),
        ],
    ),
    ("views", "session_days"): (
        RUNS + LONG_AGO,
        {},
        "select session_id, day, running_seconds from answer order by all",
        [
            ("a", D(2026, 11, 17), 2 * 3600),
            ("a", D(2026, 11, 18), 10 * 3600 + 0.5),
            ("a", D(2026, 11, 19), 12 * 3600),
            ("a", D(2026, 11, 20), 24 * 3600),
            ("b", D(2026, 11, 17), 12 * 3600),
            ("b", D(2026, 11, 18), 24 * 3600),
        ],
    ),
    ("marts", "daily_hours"): (
        PRICED,
        {},
        (
            "select day, owned_by, sessions, running_hours * 3600, estimated_cost * 3600, currency, launch_profile_id"
            " from answer order by all"
        ),
        [
            (D(2026, 11, 17), "ann", 1, 12 * 3600, 24 * 3600, "USD", "p1"),
            (D(2026, 11, 17), "ben", 1, 2 * 3600, 4 * 3600, "USD", "p1"),
            (D(2026, 11, 18), "ann", 1, 24 * 3600, 48 * 3600, "USD", "p1"),
            (D(2026, 11, 18), "ben", 1, pytest.approx(10 * 3600 + 0.5), pytest.approx(20 * 3600 + 1), "USD", "p1"),
            (D(2026, 11, 19), "ben", 1, 12 * 3600, 24 * 3600, "USD", "p1"),
            (D(2026, 11, 20), "ben", 1, 24 * 3600, 48 * 3600, "USD", "p1"),
        ],
    ),
    ("views", "volume_days"): (
        RUNS,
        {},
        "select session_id, day, owned_by, volume_gib, volume_iops, volume_throughput from answer order by all",
        [
            # on the 20th nobody saw all of it; b has no volume
            ("a", D(2026, 11, 18), "ann", 500, 5000, 500),
            ("a", D(2026, 11, 19), "ben", 500, 5000, 500),
            ("a", D(2026, 11, 20), "ben", 500, 5000, 500),
            ("a", D(2026, 11, 21), "ben", 700, 7000, 700),
            ("c", D(2026, 11, 18), "ann", 100, 1000, 100),
            ("c", D(2026, 11, 19), "ann", 100, 1000, 100),
            ("c", D(2026, 11, 20), "ann", 100, 1000, 100),
            ("c", D(2026, 11, 21), "ann", 100, 1000, 100),
            ("d", D(2026, 11, 21), "eve", 100, 1000, 100),
        ],
    ),
    ("marts", "idle_periods"): (
        RUNS,
        {},
        "select session_id, idle_from::varchar, idle_until::varchar from answer order by all",
        [
            ("a", "2026-11-17 22:05:00+00", "2026-11-18 00:00:00+00"),
            ("a", "2026-11-19 12:05:00+00", "2026-11-21 00:00:00+00"),
            ("b", "2026-11-17 12:05:00+00", "2026-11-19 00:00:00+00"),
        ],
    ),
    ("views", "idle_days"): (
        RUNS,
        {},
        "select session_id, day, idle_seconds / 60, idle_seconds_before / 60 from answer order by all",
        [
            ("a", D(2026, 11, 17), 115, 0),
            ("a", D(2026, 11, 19), 715, 0),
            ("a", D(2026, 11, 20), 1440, 715),
            ("b", D(2026, 11, 17), 715, 0),
            ("b", D(2026, 11, 18), 1440, 715),
        ],
    ),
    ("marts", "price_periods"): (
        COSTS
        + "insert into prices select 'instance_hour', 'g3.xlarge', 'r', day, day(day) - 18, 'EUR'"
        + " from unnest([date '2026-11-19', date '2026-11-20']) as t (day);",
        {},
        "from answer order by all",
        [
            ("r", "g3.xlarge", ALWAYS, D(2026, 10, 1), "USD", None, M("0.01"), None, None),
            ("r", "g3.xlarge", D(2026, 10, 1), D(2026, 11, 1), "USD", None, M("0.02"), None, None),
            ("r", "g3.xlarge", D(2026, 11, 1), D(2026, 11, 19), "USD", None, M("0.08"), None, None),
            ("r", "g3.xlarge", D(2026, 11, 19), D(2026, 11, 20), "EUR", 1, M("0.09"), M("0.005"), None),
            ("r", "g3.xlarge", D(2026, 11, 20), NEVER, "EUR", 2, M("0.09"), M("0.005"), None),
            ("r", "g5.xlarge", ALWAYS, D(2026, 10, 1), "USD", 2, M("0.01"), None, None),
            ("r", "g5.xlarge", D(2026, 10, 1), D(2026, 11, 1), "USD", 2, M("0.02"), None, None),
            ("r", "g5.xlarge", D(2026, 11, 1), D(2026, 11, 19), "USD", 2, M("0.08"), None, None),
            ("r", "g5.xlarge", D(2026, 11, 19), D(2026, 11, 20), "EUR", 3, M("0.09"), M("0.005"), None),
            ("r", "g5.xlarge", D(2026, 11, 20), NEVER, "EUR", 3, M("0.09"), M("0.005"), None),
        ],
    ),
    ("views", "volume_periods"): (
        RUNS,
        {},
        "select session_id, first_day, last_day, owned_by, volume_gib from answer order by all",
        [
            ("a", D(2026, 11, 18), D(2026, 11, 18), "ann", 500),
            ("a", D(2026, 11, 19), D(2026, 11, 20), "ben", 500),
            ("a", D(2026, 11, 21), D(2026, 11, 21), "ben", 700),
            ("c", D(2026, 11, 18), D(2026, 11, 21), "ann", 100),  # only its start has changed
            ("d", D(2026, 11, 21), D(2026, 11, 21), "eve", 100),
        ],
    ),
    ("marts", "monthly_costs"): (
        COSTS,
        {},
        (
            "select ec2_instance_type, owned_by, tags['Project'], currency, running_hours, unpriced_hours,"
            " instance_cost, volume_days, volume_gib_days, extra_iops_days, unpriced_volume_days, storage_cost, cost"
            " from answer order by all"
        ),
        [
            ("g3.xlarge", "ann", None, "USD", 36, 36, None, *(4 * [0]), None, None),
            # 500 GiB x 0.08 / 30 days; then 3 days of 100 GiB x 0.09
            ("g5.xlarge", "ann", "moon", "USD", 0, 0, None, 1, 500, 2000, 1, M("1.33333333"), M("1.33333333")),
            ("g5.xlarge", "ann", None, "EUR", 0, 0, None, 3, 300, 0, 0, M("0.9"), M("0.9")),
            ("g5.xlarge", "ann", None, "USD", 0, 0, None, 1, 100, 0, 0, M("0.26666667"), M("0.26666667")),
            # a has other tags on the 19th and 20th: 500 GiB x 0.09 + 2000 operations/s x 0.005
            ("g5.xlarge", "ben", "sun", "EUR", 0, 0, None, 2, 1000, 4000, 2, M("3.66666666"), M("3.66666666")),
            ("g5.xlarge", "ben", "sun", "EUR", 36, 0, 108, 1, 700, 4000, 1, M("2.76666667"), M("110.76666667")),
            (
                "g5.xlarge",
                "ben",
                "sun",
                "USD",
                near(12 + 0.5 / 3600),
                0,
                M("24.00027778"),
                *(4 * [0]),
                None,
                M("24.00027778"),
            ),
            ("g5.xlarge", "eve", None, "EUR", 0, 0, None, 1, 100, 0, 0, M("0.3"), M("0.3")),
        ],
    ),
    ("views", "session_costs"): (
        COSTS,
        {},
        (
            "select session_id, day, currency, running_hours, unpriced_hours, instance_cost, idle_cost,"
            " volume_gib_days, extra_iops_days, extra_throughput_days, unpriced_volume_days, storage_cost"
            " from answer where day in ('2026-11-18', '2026-11-19') order by session_id, day, volume_days"
        ),
        [
            ("a", D(2026, 11, 18), "USD", near(10 + 0.5 / 3600), 0, M("20.00027778"), 0, 0, 0, 0, 0, None),
            ("a", D(2026, 11, 18), "USD", 0, 0, None, None, 500, 2000, 375, 1, M("1.33333333")),
            ("a", D(2026, 11, 19), "EUR", 12, 0, 36, M("35.75"), 0, 0, 0, 0, None),
            ("a", D(2026, 11, 19), "EUR", 0, 0, None, None, 500, 2000, 375, 1, M("1.83333333")),  # without its MiB/s
            ("b", D(2026, 11, 18), "USD", 24, 24, None, None, 0, 0, 0, 0, None),
            ("c", D(2026, 11, 18), "USD", 0, 0, None, None, 100, 0, 0, 0, M("0.26666667")),
            ("c", D(2026, 11, 19), "EUR", 0, 0, None, None, 100, 0, 0, 0, M("0.3")),
        ],
    ),
    ("views", "daily_costs"): (
        COSTS,
        {},
        (
            "select * exclude (account_id, region, studio_id, launch_profile_id) from answer"
            " where day < '2026-11-20' order by all"
        ),
        [
            (D(2026, 11, 17), "g3.xlarge", "ann", "USD", 12, 0, 12, None, near(715 / 60), None, *(5 * [0]), None, None),
            (
                D(2026, 11, 17),
                "g5.xlarge",
                "ben",
                "USD",
                2,
                2,
                0,
                4,
                near(115 / 60),
                M("3.83333333"),
                *(5 * [0]),
                None,
                4,
            ),
            (D(2026, 11, 18), "g3.xlarge", "ann", "USD", 24, 0, 24, None, 24, None, *(5 * [0]), None, None),
            (
                D(2026, 11, 18),
                "g5.xlarge",
                "ann",
                "USD",
                0,
                0,
                0,
                None,
                0,
                None,
                2,
                600,
                2000,
                375,
                1,
                M("1.6"),
                M("1.6"),
            ),
            (
                D(2026, 11, 18),
                "g5.xlarge",
                "ben",
                "USD",
                near(10 + 0.5 / 3600),
                near(10 + 0.5 / 3600),
                0,
                M("20.00027778"),
                0,
                0,
                *(5 * [0]),
                None,
                M("20.00027778"),
            ),
            (D(2026, 11, 19), "g5.xlarge", "ann", "EUR", 0, 0, 0, None, 0, None, 1, 100, 0, 0, 0, M("0.3"), M("0.3")),
            (
                D(2026, 11, 19),
                "g5.xlarge",
                "ben",
                "EUR",
                12,
                12,
                0,
                36,
                near(715 / 60),
                M("35.75"),
                1,
                500,
                2000,
                375,
                1,
                M("1.83333333"),
                M("37.83333333"),
            ),
        ],
    ),
    ("views", "daily_costs_by_tag"): (
        COSTS,
        {},
        (
            "select day, tag, value, currency, running_hours, instance_cost, volume_days, storage_cost, cost"
            " from answer where day in ('2026-11-17', '2026-11-20') order by all"
        ),
        [
            (D(2026, 11, 17), "Project", "sun", "USD", 2, 4, 0, None, 4),
            (D(2026, 11, 17), "Shot", "1", "USD", 2, 4, 0, None, 4),
            (D(2026, 11, 20), "Project", "sun", "EUR", 24, 72, 1, M("1.83333333"), M("73.83333333")),
            (D(2026, 11, 20), "Shot", "1", "EUR", 0, None, 1, M("1.83333333"), M("1.83333333")),
        ],
    ),
    ("queries", "costs_by_month"): (
        COSTS,
        {},
        "from answer",
        [
            (D(2026, 11, 1), "1", "r", "s1", "EUR", 36, 0, 3, 108, M("7.63"), M("115.63"), f"volumes {NO_PRICE}"),
            (
                D(2026, 11, 1),
                "1",
                "r",
                "s1",
                "USD",
                48,
                36,
                1,
                24,
                M("1.6"),
                M("25.6"),
                f"hours and volumes {NO_PRICE}",
            ),
        ],
    ),
    ("queries", "costs_by_owner"): (
        COSTS,
        {},
        "select owned_by, currency, running_hours, unpriced_hours, unpriced_volume_days, cost, note from answer",
        [
            ("ben", "EUR", 36, 0, 3, M("114.43"), f"volumes {NO_PRICE}"),
            ("ben", "USD", 12, 0, 0, 24, None),
            ("ann", "USD", 36, 36, 1, M("1.6"), f"hours and volumes {NO_PRICE}"),
            ("ann", "EUR", 0, 0, 0, M("0.9"), None),
            ("eve", "EUR", 0, 0, 0, M("0.3"), None),
        ],
    ),
    ("queries", "costs_by_tag"): (
        COSTS,
        {"tag": "Project"},
        "from answer",
        [
            (D(2026, 11, 1), "sun", True, "EUR", 36, 0, 3, 108, M("6.43"), M("114.43"), f"volumes {NO_PRICE}"),
            (D(2026, 11, 1), "sun", True, "USD", 12, 0, 0, 24, None, 24, None),
            (D(2026, 11, 1), "moon", True, "USD", 0, 0, 1, None, M("1.33"), M("1.33"), f"volumes {NO_PRICE}"),
            (D(2026, 11, 1), None, False, "EUR", 0, 0, 0, None, M("1.2"), M("1.2"), None),
            (D(2026, 11, 1), None, False, "USD", 36, 36, 0, None, M("0.27"), M("0.27"), f"hours {NO_PRICE}"),
        ],
    ),
    ("queries", "unpriced_hours"): (
        COSTS,
        {},
        "from answer",
        [("r", "g3.xlarge", D(2026, 11, 17), D(2026, 11, 18), 36, f"hours {NO_PRICE}")],
    ),
    ("queries", "idle_costs"): (
        f"{COSTS} insert into prices values ('instance_hour', 'g3.xlarge', null, '2026-11-18', 1, 'USD');",
        {"hours": "11"},
        "from answer",
        [
            (D(2026, 11, 1), "1", "r", "s1", "EUR", 1, 24.9, 0, M("74.75"), None),
            (D(2026, 11, 1), "1", "r", "s1", "USD", 1, 24.9, 0.9, 24, f"hours {NO_PRICE}"),
        ],
    ),
    ("marts", "daily_hours_by_tag"): (
        RUNS,
        {},
        "select day, tag, value, sessions, running_hours from answer where day <> '2026-11-18' order by all",
        [
            (D(2026, 11, 17), "Project", "sun", 1, 2.0),
            (D(2026, 11, 17), "Shot", "1", 1, 2.0),
            (D(2026, 11, 19), "Project", "sun", 1, 12.0),
            (D(2026, 11, 20), "Project", "sun", 1, 24.0),
        ],
    ),
    ("marts", "daily_states"): (
        RUNS + TWIN,
        {},
        "from answer order by all",
        [
            (D(2026, 11, 18), "1", "r", "s1", "READY", 3, 1000, 10000, 1000),
            (D(2026, 11, 18), "1", "r", "s1", "START_FAILED", 1, 100, 1000, 100),
            (D(2026, 11, 19), "1", "r", "s1", "READY", 1, 0, 0, 0),
            (D(2026, 11, 19), "1", "r", "s1", "START_FAILED", 1, 100, 1000, 100),
            (D(2026, 11, 19), "1", "r", "s1", "STOPPED", 2, 1000, 10000, 1000),
            # nobody saw all of it on the 20th; on the 21st b is gone
            (D(2026, 11, 21), "1", "r", "s1", "CREATE_IN_PROGRESS", 1, 100, 1000, 100),
            (D(2026, 11, 21), "1", "r", "s1", "READY", 1, 700, 7000, 700),
            (D(2026, 11, 21), "1", "r", "s1", "START_FAILED", 1, 100, 1000, 100),
            (D(2026, 11, 21), "1", "r", "s1", "STOPPED", 1, 900, 5000, 500),
        ],
    ),
    ("marts", "session_lifetimes"): (
        RUNS,
        {},
        (
            "select session_id, wait_seconds, first_seen, last_seen, is_listed, life_seconds, runs, running_seconds"
            " from answer order by all"
        ),
        [
            ("a", 7200, D(2026, 11, 18), D(2026, 11, 21), True, 76 * 3600, 2, 48 * 3600 + 0.5),
            ("b", None, D(2026, 11, 18), D(2026, 11, 19), False, 18 * 24 * 3600, 1, 36 * 3600),
            ("c", 3600, D(2026, 11, 18), D(2026, 11, 21), True, 95 * 3600, 0, 0),
            ("d", None, D(2026, 11, 21), D(2026, 11, 21), True, 0, 0, 0),
        ],
    ),
    ("marts", "failures"): (
        RUNS,
        {},
        "from answer order by all",
        [
            (D(2026, 11, 18), "1", "r", "s1", "START_FAILED", "NETWORK", 1),
            (D(2026, 11, 19), "1", "r", "s1", "START_FAILED", "NETWORK", 1),
        ],
    ),
    ("marts", "idle_times"): (
        WORKSTATIONS,
        {},
        "select session_id, idle_seconds, volume_gib from answer",
        [("a", 3600, 500)],
    ),
    ("marts", "planned_ends"): (
        WORKSTATIONS,
        {},
        "select session_id, ending, seconds_left from answer order by all",
        [("a", "stop", 3600), ("a", "terminate", 24 * 3600), ("b", "terminate", 1859.9)],  # d has failed: no stop
    ),
    ("marts", "storage_held"): (
        WORKSTATIONS,
        {},
        "from answer order by all",
        [("1", "r", "s1", "ann", 2, 700, 7000, 250), ("1", "r", "s1", "ben", 1, 100, 1000, 125)],
    ),
    ("marts", "tag_usage"): (
        WORKSTATIONS,
        {},
        "from answer order by all",
        [
            ("1", "r", "s1", "Project", 2, 0.5, 2),
            ("1", "r", "s1", "project", 1, 0.25, 1),
            ("1", "r", "s2", "Name", 1, 1.0, 1),
        ],
    ),
    ("checks", "keys_are_unique"): (one_more(session_id="'c'"), {}, "from answer", [("1", "r", "s1", "c", 2)]),
    ("checks", "tags_equal_the_sessions"): (
        one_more(tags="map {'b': ''}"),
        {},
        "from answer",
        [("1", "r", "s1", 2, 1)],
    ),
    ("checks", "studios_are_listed"): (
        one_more(studio_id="'s2'"),
        {},
        "from answer",
        [("1", "r", "s2", 1, D(2026, 11, 20))],
    ),
    ("checks", "instants_are_in_order"): (
        one_more(started_at="created_at - interval 1 microsecond"),
        {},
        "select session_id from answer",
        [("e",)],
    ),
    ("checks", "volumes_are_within_limits"): (
        one_more(volume_configuration_size="99"),
        {},
        "from answer",
        [("1", "r", "s1", "e", 99, None, None)],
    ),
    ("checks", "rows_equal_the_ledger"): (
        f"{LEDGER}{BAD}\ndelete from streaming_sessions where rowid = 0;",
        {},
        "from answer",
        [("streaming_sessions", "1", "r", "x", D(2026, 11, 20), 3, 2, 6, 6)],
    ),
    ("checks", "values_are_known"): (
        f"{LEDGER}{BAD}\nupdate etl_slices set drift = ['gpu', 'state: ASLEEP'] where run_id = 'r2';",
        {},
        "select unknown from answer",
        [("gpu",), ("state: ASLEEP",)],
    ),
    ("checks", "snapshots_are_fresh"): (
        (
            f"{LEDGER}\ninsert into current_slices values"
            f" ('r1', 'y', 'streaming_sessions', '1', 'r', map {{}}, '2026-11-19');"
            f" insert into current_slices values ('r1', 'z', 'others', '1', 'r', map {{}}, '2026-11-10');"
            f"{BAD}\ninsert into current_slices values"
            f" ('r1', 'z', 'streaming_sessions', '1', 'r', map {{}}, '2026-11-18');"
        ),
        {},
        "select dataset, snapshot_date, newest_date from answer",
        [("streaming_sessions", D(2026, 11, 18), D(2026, 11, 20))],
    ),
    ("checks", "snapshots_are_not_in_the_future"): (
        (
            f"{SLICES}{BAD}\nupdate etl_slices set snapshot_date = '2999-01-01' where run_id in ('run2', 'run5')"
            " and state <> 'failed';"
        ),
        {},
        "select snapshot_date, run_id from answer order by all",
        [(D(2999, 1, 1), "run2"), (D(2999, 1, 1), "run5")],
    ),
    ("checks", "hours_have_prices"): (
        f"{RUNS}{BAD}\ninsert into prices values ('instance_hour', 'g5.xlarge', null, '2026-11-19', 2.0, 'USD');",
        {},
        "from answer",
        [("r", "g5.xlarge", D(2026, 11, 17), D(2026, 11, 18), near(48 + 0.5 / 3600))],
    ),
    ("checks", "numbers_are_steady"): (
        (
            f"{LEDGER}insert into snapshots values"
            " ('streaming_sessions', 'x', '2026-11-20', 50, 'complete', false, '1', 'r');"
            f"{BAD}\nupdate snapshots set rows = 49 where snapshot_date = '2026-11-20';"
        ),
        {},
        "select slice_id, rows, rows_before from answer",
        [("x", 49, 100)],
    ),
}
