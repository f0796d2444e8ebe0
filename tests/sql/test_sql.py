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
D = dt.date
CASES = {
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
