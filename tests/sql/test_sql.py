"""Given rows, expected rows, for every file of sql/; and the header that says what it answers."""

import datetime as dt

import duckdb
import pytest

from etl.query import bind
from etl.sqlfiles import HEADERS, sql_files

FILES = {
    (kind, name): file for kind in ("views", "marts", "checks", "queries") for name, file in sql_files(kind).items()
}

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
create table studios (studio_id varchar, studio_name varchar);
insert into studios values ('s1', 'nightfall');
create table streaming_session_tags (slice_id varchar, session_id varchar, key varchar, value varchar);
insert into streaming_session_tags values
    ('x', 'a', 'Project', 'moon'), ('x', 'a', 'project', 'sun'), ('x', 'c', 'Project', 'moon'),
    ('y', 'a', 'Project', '');
"""
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
"""
WORKSTATIONS = """
create table streaming_sessions (
    studio_id varchar, slice_id varchar, session_id varchar, owned_by varchar, ec2_instance_type varchar, state varchar,
    status_code varchar, status_message varchar, created_at timestamptz, stop_at timestamptz, stopped_at timestamptz,
    terminate_at timestamptz, updated_at timestamptz, extracted_at timestamptz, volume_configuration_size integer,
    volume_configuration_iops integer, volume_configuration_throughput integer
);
insert into streaming_sessions
select
    studio, slice, session, owner, type, state, code, code, '2026-11-01 00:00:00Z', stop::timestamptz,
    stopped::timestamptz, terminate::timestamptz, '2026-11-20 01:00:00Z', '2026-11-20 02:00:00Z', gib, gib * 10, 125
from (values
    ('s1', 'x', 'a', 'ann', 'g5.xlarge', 'READY', null, '2026-11-20 03:00:00Z', null, '2026-11-21 02:00:00Z', 500),
    ('s1', 'x', 'b', 'ben', 'g5.xlarge', 'STOPPED', null, null, '2026-11-06 02:00:00Z', '2026-11-20 02:30:00Z', 100),
    ('s1', 'x', 'c', 'ann', 'g5.xlarge', 'STOPPED', null, null, '2026-11-06 02:00:01Z', null, 200),
    ('s1', 'x', 'd', 'ann', 'g4dn.xlarge', 'START_FAILED', 'NETWORK', '2026-11-20 02:00:00Z', null, null, null),
    ('s2', 'y', 'a', 'eve', 'g5.xlarge', 'STOPPED', null, null, '2026-10-01 00:00:00Z', null, null)
) as given (studio, slice, session, owner, type, state, code, stop, stopped, terminate, gib);
create table streaming_session_tags (slice_id varchar, session_id varchar, key varchar, value varchar);
insert into streaming_session_tags values
    ('x', 'a', 'Project', 'moon'), ('x', 'b', 'Project', 'sun'), ('x', 'c', 'project', 'moon'), ('y', 'a', 'Name', '');
"""
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
"""
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
"""
D = dt.date
CASES = {
    ("queries", "storage_by_owner"): (
        WORKSTATIONS,
        {},
        "from answer",
        [("s1", "ann", 2, 700, 7000, 250), ("s1", "ben", 1, 100, 1000, 125)],
    ),
    ("queries", "sessions_by_instance_type"): (
        WORKSTATIONS,
        {},
        "from answer",
        [("s1", "g5.xlarge", 3, 1), ("s1", "g4dn.xlarge", 1, 0), ("s2", "g5.xlarge", 1, 0)],
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
        [("s1", "Project", 2, 0.5, 2), ("s1", "project", 1, 0.25, 1), ("s2", "Name", 1, 1.0, 1)],
    ),
    ("queries", "stopped_sessions"): (
        WORKSTATIONS,
        {"days": "14"},
        "select session_id, days_stopped, volume_gib from answer",
        [("b", 14, 100)],  # c is a second short of it, the other holds no volume
    ),
    ("queries", "waits_to_start"): (
        VERSIONS,
        {},
        "from answer",
        [("s1", "g5.xlarge", 2, 15.3, 20.5)],  # c was started before any snapshot: nobody saw its first start
    ),
    ("queries", "session_history"): (
        VERSIONS,
        {"session_id": "a"},
        "select valid_from, valid_to, state from answer",
        [(D(2026, 11, 19), D(2026, 11, 20), "CREATE_IN_PROGRESS"), (D(2026, 11, 20), None, "READY")],
    ),
    ("queries", "changes_by_night"): (
        CHANGES,
        {"nights": "1"},
        "from answer",
        [(D(2026, 11, 20), "s1", 0, 1, 1)],
    ),
    ("queries", "state_changes"): (
        CHANGES,
        {},
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
        [("nightfall", "READY", 2, 500), ("nightfall", "STOPPED", 1, 100), ("s2", "READY", 1, 100)],
    ),
    ("queries", "sessions_by_tag"): (
        SESSIONS,
        {"tag": "Project"},
        "from answer",
        [("moon", 2, 1), ("", 1, 1), (None, 1, 1)],
    ),
    ("queries", "nights"): (
        SLICES + f"create view snapshots as {FILES['views', 'snapshots'].text};",
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
    ("views", "current_slices"): (
        SLICES,
        {},
        "select parents['studioId'], slice_id, snapshot_date from answer order by all",
        [("s1", "x", D(2026, 11, 19)), ("s2", "y", D(2026, 11, 18))],
    ),
}


def test_every_file_has_a_case():
    assert CASES.keys() == FILES.keys()


@pytest.mark.parametrize("key", CASES, ids="/".join)
def test_given_rows_give_the_expected_rows(key):
    given, parameters, look, expected = CASES[key]
    file = FILES[key]
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(given)
        connection.sql(file.text, params=bind(file, parameters)).create("answer")
        found = connection.execute(look).fetchall()

    assert found == expected


@pytest.mark.parametrize("key", FILES, ids="/".join)
def test_every_file_begins_with_its_name_and_has_the_header(key):
    file = FILES[key]

    assert file.text.startswith(f"-- {file.name}.sql\n")
    assert tuple(file.headers) == HEADERS
    assert all(file.headers.values())
    assert all(f"${parameter.name}" in file.text.split("select", 1)[1] for parameter in file.parameters)
    assert ("none" in file.headers["Parameters"]) == (not file.parameters)
