"""Given rows, expected rows, for every file of sql/; and the header that says what it answers."""

from contextlib import contextmanager

import duckdb
import pytest
from support.report_cases import COSTS, HELD, HOURS, REPORT_CASES, WEEKS
from support.sql_cases import BAD, NIGHTS, RUNS, SESSIONS, SLICES, WORKSTATIONS, D, one_more
from support.sql_cases import CASES as OTHER_CASES

from etl.load.catalog.relations import add_macros
from etl.read.query import bind
from etl.sqlfiles import CHECK_HEADERS, HEADERS, MACRO_HEADERS, sql_files

CASES = OTHER_CASES | REPORT_CASES
FILES = {
    (kind, name): file
    for kind in ("views", "marts", "checks", "queries", "report")
    for name, file in sql_files(kind).items()
}


def add_sources(connection, file):
    """Add the views and marts that a file reads, and those that they read, where the rows given are not theirs."""
    for name in file.reads:
        there = connection.execute("select table_name from information_schema.tables").fetchall()
        if (name,) not in there:
            source = FILES.get(("marts", name)) or FILES["views", name]
            add_sources(connection, source)
            connection.execute(f"create view {name} as {source.text}")


@contextmanager
def prepared(file, given):
    """Yield a connection to a database with some rows and all that a file needs besides."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(given)
        add_macros(connection)
        add_sources(connection, file)
        yield connection


def answer(kind, name, given, look="from answer", **parameters):
    """Return what a file answers of some rows."""
    file = FILES[kind, name]
    with prepared(file, given) as connection:
        connection.sql(file.text, params=bind(file, parameters)).create("answer")
        return connection.execute(look).fetchall()


def test_every_file_has_a_case():
    assert CASES.keys() == FILES.keys()
    assert MACROS.keys() == sql_files("macros").keys()


MACROS = {
    "seen_at": [
        ("'2026-11-20 02:00:00Z'::timestamptz, date '2026-11-20'", "2026-11-20 02:00:00+00"),
        ("'2028-01-01 00:00:00Z'::timestamptz, date '2026-11-20'", "2026-11-21 00:00:00+00"),  # a dump of that date
    ],
    "costs_note": [
        ("0, 3.5, 2", "no price table is named: marts.prices names one"),
        ("1, 3.5, 2", "hours and volumes without a price are not part of the cost"),
        ("1, 3.5, 0", "hours without a price are not part of the cost"),
        ("1, 0, 2", "volumes without a price are not part of the cost"),
        ("1, 0, 0", None),
        ("1, null, 0", None),
    ],
}
"""Macro -> arguments and the answer, as text."""


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
@pytest.mark.parametrize("name", MACROS)
def test_macro_has_the_header_and_answers_the_same_in_every_time_zone(name, zone):
    file = sql_files("macros")[name]
    assert file.text.startswith(f"-- {name}.sql\n")
    assert tuple(file.headers) == MACRO_HEADERS
    with duckdb.connect() as connection:
        connection.execute(f"set TimeZone = '{zone}'")
        add_macros(connection)
        for arguments, expected in MACROS[name]:
            connection.execute(f"create or replace table answer as select {name}({arguments}) as answer")
            connection.execute("set TimeZone = 'UTC'")
            assert connection.execute("select answer::varchar from answer").fetchall() == [(expected,)]
            connection.execute(f"set TimeZone = '{zone}'")


@pytest.mark.parametrize("key", CASES, ids="/".join)
def test_given_rows_give_the_expected_rows(key):
    given, parameters, look, expected = CASES[key]

    assert answer(*key, given, look, **parameters) == expected


TWINS = {"account_id": "account", "region": "place", "slice_id": "account || place || slice_id"}
"""Columns that tell a row from the same row of another account or Region, and what they have there."""
SUBJECTS = {"studio_id", "studio", "parents", "session_id", "slice_id"}
OF_ALL_PLACES = {
    *(("report", name) for name in ("nights", "unfinished_walks", "failed_checks", "rejects")),
    *(("report", name) for name in ("dataset_growth", "dataset_records", "use_by_region", "costs_by_region")),
    *(("queries", name) for name in ("sessions_by_tag", "state_changes", "costs_by_tag", "unpriced_hours")),
    *(("marts", name) for name in ("nights", "price_periods")),
    *(("checks", name) for name in ("snapshots_are_not_in_the_future", "hours_have_prices")),
}
"""Files whose rows are about nothing that belongs to one account and Region."""


def add_twins(connection):
    """Copy the given rows into another account, and into another Region."""
    columns = (
        "select table_name, list(column_name) from information_schema.tables"
        " join information_schema.columns using (table_name) where table_type = 'BASE TABLE' group by all"
    )
    for table, names in connection.execute(columns).fetchall():
        if replaced := ", ".join(f"{value} as {name}" for name, value in TWINS.items() if name in names):
            connection.execute(
                f"insert into {table} select given.* replace ({replaced}) from {table} as given,"
                " (values ('2', 'r'), ('1', 'q')) as twins (account, place)"
                f" {'where given.region = $$r$$' if table == 'prices' else ''}"
            )


@pytest.mark.parametrize("key", [key for key in FILES if key not in OF_ALL_PLACES], ids="/".join)
def test_studios_and_sessions_of_equal_ids_are_kept_apart_by_account_and_region(key):
    """Whoever joins or groups by an id alone counts some twice, or takes two for one."""
    file, (given, parameters, *_) = FILES[key], CASES[key]
    values = bind(file, parameters | ({"rows": "99"} if "rows" in parameters else {}))

    def rows_by_place():
        places = {}
        for row in connection.sql(file.text, params=values).to_arrow_table().to_pylist():
            shown = {name: value for name, value in row.items() if name not in (*TWINS, "total")}
            places.setdefault((row["account_id"], row["region"]), []).append(repr(shown))
        return {place: sorted(rows) for place, rows in places.items()}

    with prepared(file, given) as connection:
        alone = rows_by_place()
        add_twins(connection)
        with_twins = rows_by_place()

    assert alone.keys() == {("1", "r")}
    assert with_twins == dict.fromkeys([("1", "r"), ("1", "q"), ("2", "r")], alone["1", "r"])


def test_a_studio_of_another_account_is_not_taken_for_one_that_is_listed():
    unlisted = one_more(account_id="'2'")
    assert answer("checks", "studios_are_listed", unlisted) == [("2", "r", "s1", 1, D(2026, 11, 20))]


@pytest.mark.parametrize(
    ("ends", "of_night"),
    [
        ({"1/2": 0, "2/2": 0}, 0), ({"1/2": 5, "2/2": 0}, 5), ({"1/2": 3, "2/2": 5}, 3), ({"1/2": 1, "2/2": 0}, 5),
        ({"1/2": 1, "2/2": 1}, 1), ({"1/2": 5, "1/3": 0, "2/3": 0}, 0), ({"1/2": 5, None: 0}, 0),
        ({None: 5, "1/2": 0}, 0),
    ],
)  # fmt: skip
def test_night_of_shards_ends_as_all_of_them_have_in_the_last_way_that_it_was_divided(ends, of_night):
    rows = ", ".join(
        f"('2026-11-20', 'r{hour}', '2026-11-20 {hour:02}:00:00Z', {code}, 1, 0, 1, {shard!r})".replace("None", "null")
        for hour, (shard, code) in enumerate(ends.items(), start=10)
    )
    given = f"{NIGHTS} alter table etl_runs add column shard varchar; insert into etl_runs values {rows}"
    found = answer("report", "nights", given, "from answer", nights="1")
    assert [(row[1], row[2]) for row in found] == [(of_night, 7 + len(ends))]


def test_unfinished_walks_of_several_accounts_are_named_with_account_and_region():
    """And what a dataset tolerates is none of them."""
    given = (
        f"{NIGHTS}\nupdate etl_slices set account_id = '2' where run_id = 'r4';"
        " update etl_slices set state = 'skipped' where slice_id = 'y'"
    )
    found = answer("report", "unfinished_walks", given, "from answer", nights="2", rows="2")
    assert found == [(D(2026, 11, 20), "streaming_sessions", "2, r, x", "walking", None, 1)]


@pytest.mark.parametrize("key", FILES, ids="/".join)
def test_every_file_begins_with_its_name_and_has_the_header(key):
    file = FILES[key]

    assert file.text.startswith(f"-- {file.name}.sql\n")
    expected = CHECK_HEADERS if key[0] == "checks" else HEADERS
    assert tuple(name for name in file.headers if name not in ("Assumes", "Carried")) == expected
    assert all(file.headers.values())
    assert all(f"${parameter.name}" in file.text.split("select", 1)[1] for parameter in file.parameters)
    assert ("none" in file.headers.get("Parameters", "none")) == (not file.parameters)


@pytest.mark.parametrize("key", FILES, ids="/".join)
def test_every_column_is_in_its_place_and_those_of_views_marts_checks_and_the_report_are_described(key):
    """They go into the dictionary; a few views and marts have the columns of what they read."""
    file = FILES[key]
    with prepared(file, CASES[key][0]) as connection:
        columns = connection.sql(file.text, params=bind(file, {})).columns

    if key[0] != "queries" and file.columns:
        assert list(file.columns) == columns
        assert all(file.columns.values())
    if key in OF_ALL_PLACES:
        assert SUBJECTS.isdisjoint(columns)
    elif studio := {"studio_id", "studio", "parents"}.intersection(columns):
        place = columns.index(*studio)
        assert columns[place - 2 : place] == ["account_id", "region"]


@pytest.mark.parametrize("key", [key for key in FILES if key[0] == "checks"], ids="/".join)
def test_a_check_says_how_severe_it_is_and_has_passed_somewhere(key):
    assert FILES[key].headers["Severity"] in ("error.", "warning.")
    good = CASES["checks", key[1]][0].partition(BAD)[0]
    with prepared(FILES[key], good) as connection:
        assert connection.sql(FILES[key].text).fetchall() == []


ENDINGS = """
insert into streaming_session_changes
select
    date::date, previous::date, change, map {'state': '"READY"'}, ['state'], 'x', 's1', session, state, null, 'ann',
    'g5.xlarge', 'p1', '2026-11-10 00:00:00Z', started::timestamptz, stopped::timestamptz, null, 500, 5000, 500,
    null, '1', 'r'
from (values
    ('2026-11-18', null, 'appeared', 'g', 'READY', '2026-11-17 08:00:00Z', null),
    ('2026-11-19', '2026-11-18', 'changed', 'g', 'DELETED', '2026-11-17 08:00:00Z', null),
    ('2026-11-18', null, 'appeared', 'h', 'READY', '2026-11-17 08:00:00Z', null),
    ('2026-11-19', '2026-11-18', 'changed', 'h', 'READY', '2026-11-18 19:00:00Z', '2026-11-18 18:30:00Z'),
    ('2026-11-18', null, 'appeared', 'i', 'DELETED', '2026-11-17 08:00:00Z', null),
    ('2026-11-18', null, 'appeared', 'j', 'READY', '2026-11-17 08:00:00Z', null),
    ('2026-11-19', '2026-11-18', 'changed', 'j', 'READY', '2026-11-18 19:00:00Z', '2026-11-16 18:30:00Z')
) as given (date, previous, change, session, state, started, stopped);
"""
"""g: deleted while it ran. h: restarted between two snapshots. i: first seen deleted. j: restarted without a stop."""


def test_a_run_ends_with_the_stop_that_the_next_start_shows_or_where_the_session_is_deleted():
    look = (
        "select session_id, ending, running_seconds / 3600 from answer where session_id >= 'g' order by 1, started_at"
    )
    assert answer("marts", "session_runs", RUNS + ENDINGS, look) == [
        ("g", "unseen", 16),
        ("h", "stopped", 34.5),
        ("h", "running", 53),
        ("i", "unseen", 0),
        ("j", "unseen", 16),
        ("j", "running", 53),
    ]


def test_a_first_start_is_known_only_if_a_snapshot_shows_it_in_time():
    """The studio failed for nights: what is seen then may be a later start."""
    rows = """
    insert into streaming_session_changes
    select * replace ('k' as session_id, timestamptz '2026-11-17 20:00:00Z' as created_at, null as started_at)
    from streaming_session_changes where session_id = 'c' and change = 'appeared';
    insert into streaming_session_changes
    select * replace (
        'k' as session_id, timestamptz '2026-11-17 20:00:00Z' as created_at,
        timestamptz '2026-11-20 08:00:00Z' as started_at, null as stopped_at
    )
    from streaming_session_changes where session_id = 'a' and snapshot_date = '2026-11-21';
    """
    look = "select first_seen, first_started_at, wait_seconds from answer where session_id = 'k'"
    assert answer("marts", "session_lifetimes", RUNS + rows, look) == [(D(2026, 11, 18), None, None)]


def test_a_studio_that_was_only_ever_listed_with_filters_is_current_and_never_complete():
    """Whoever exports the sessions of one owner only reads them in `streaming_sessions`."""
    filtered = f"{SLICES} delete from etl_slices where not is_filtered;"
    look = "select slice_id, snapshot_date from answer"
    assert answer("marts", "current_slices", filtered, look) == [("z", D(2026, 11, 20))]
    assert answer("views", "complete_snapshots", filtered, look) == []


def test_studios_of_one_name_are_told_apart():
    twin = "insert into studios values ('s2', 'nightfall', '1', 'r');"
    assert answer("queries", "sessions_by_state", SESSIONS + twin) == [
        ("1", "r", "nightfall s1", "READY", 2, 500),
        ("1", "r", "nightfall s1", "STOPPED", 1, 100),
        ("1", "r", "nightfall s2", "READY", 1, 100),
    ]


def test_a_volume_that_is_held_for_a_month_costs_the_price_of_a_month():
    """28 days of February cost as much as the 31 of January before them."""
    held = (
        f"{RUNS} delete from streaming_session_changes where session_id <> 'c' or snapshot_date > '2026-11-18';"
        " update streaming_session_changes set snapshot_date = '2026-01-01';"
        " insert into snapshots select * replace (date '2026-02-28' as snapshot_date) from snapshots limit 1;"
        " delete from snapshots where snapshot_date > '2026-03-01';"
        " insert into prices values ('volume_gib_month', null, null, null, 0.5, 'USD')"
    )
    look = "select month::varchar, unpriced_volume_days, storage_cost from answer"
    assert answer("queries", "costs_by_month", held, look) == [("2026-02-01", 0, 50), ("2026-01-01", 0, 50)]
    days = "select month(day), round(sum(storage_cost), 4)::double from answer group by 1 order by 1"
    assert answer("views", "session_costs", held, days) == [(1, 50), (2, 50)]


def test_a_volume_that_vanished_counts_up_to_the_last_snapshot_that_shows_it():
    """Nobody knows when in the night of the 20th, which was missed, it went."""
    gone = f"{RUNS} update streaming_session_changes set volume_configuration_size = 100 where session_id = 'b'"
    look = "select day from answer where session_id = 'b' order by all"
    assert answer("views", "volume_days", gone, look) == [(D(2026, 11, 18),), (D(2026, 11, 19),)]


def test_periods_of_a_volume_end_where_it_is_another_one_where_it_is_gone_and_where_the_session_is():
    """a: larger for a night, and then as before. c: without a volume for a night. d: vanishes and comes back."""
    changes = [
        ("2026-11-18", None, "appeared", "a", 100), ("2026-11-19", "2026-11-18", "changed", "a", 200),
        ("2026-11-20", "2026-11-19", "changed", "a", 100), ("2026-11-21", "2026-11-20", "changed", "a", 100),
        ("2026-11-18", None, "appeared", "c", 100), ("2026-11-19", "2026-11-18", "changed", "c", "null"),
        ("2026-11-20", "2026-11-19", "changed", "c", 100), ("2026-11-18", None, "appeared", "d", 100),
        ("2026-11-21", "2026-11-19", "vanished", "d", 100), ("2026-11-22", "2026-11-21", "appeared", "d", 100),
    ]  # fmt: skip
    rows = " union all ".join(
        f"select * replace ('{date}'::date as snapshot_date, {f'date {before!r}' if before else 'null'} as"
        f" previous_date, '{change}' as change, '{session}' as session_id, {gib} as volume_configuration_size)"
        " from one"
        for date, before, change, session, gib in changes
    )
    given = (
        f"{RUNS} create table one as from streaming_session_changes where session_id = 'd';"
        f" delete from streaming_session_changes; insert into streaming_session_changes {rows}; drop table one;"
    )
    look = "select session_id, first_day, last_day, volume_gib from answer order by all"
    assert answer("marts", "session_volumes", given, look) == [
        ("a", D(2026, 11, 18), D(2026, 11, 18), 100),
        ("a", D(2026, 11, 19), D(2026, 11, 19), 200),
        ("a", D(2026, 11, 20), None, 100),
        ("c", D(2026, 11, 18), D(2026, 11, 18), 100),
        ("c", D(2026, 11, 20), None, 100),
        ("d", D(2026, 11, 18), D(2026, 11, 19), 100),
        ("d", D(2026, 11, 22), None, 100),
    ]


LATE = "update streaming_sessions set extracted_at = '2028-01-01 00:00:00Z';"
"""As of a dump that was imported years after it was saved."""


@pytest.mark.parametrize(
    ("kind", "name", "given", "look", "expected"),
    [
        ("marts", "idle_times", WORKSTATIONS, "select idle_seconds / 3600 from answer", [(23,)]),
        ("marts", "planned_ends", WORKSTATIONS, "select max(seconds_left) / 3600 from answer", [(2,)]),
        ("queries", "idle_sessions", SESSIONS, "select max(idle_hours) from answer", [(70,)]),
        ("queries", "stopped_sessions", WORKSTATIONS, "select max(days_stopped) from answer", [(14,)]),
        ("queries", "ending_sessions", WORKSTATIONS, "select max(minutes_left) from answer", [(120,)]),
    ],
)
def test_what_was_imported_late_is_as_of_its_snapshot_date(kind, name, given, look, expected):
    assert answer(kind, name, given + LATE, look) == expected


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("states_by_night", RUNS + HELD),
        ("hours_by_studio", RUNS + HELD),
        ("storage_by_night", RUNS + HELD),
        ("changes_by_night", CASES["report", "changes_by_night"][0]),
        ("idle_times", SESSIONS),
        ("planned_ends", WORKSTATIONS),
        ("hours_by_instance_type", HOURS + HELD),
        ("top_owners", HOURS + HELD),
        ("storage_by_owner", WORKSTATIONS),
        ("week", WEEKS),
        ("costs_of_week", COSTS),
        ("costs_by_day", COSTS),
    ],
)
def test_studios_beyond_the_largest_are_shown_together_and_nothing_of_them_is_lost(name, given):
    """A page about thousands of studios would be too large to mail."""
    columns = [column for column in FILES["report", name].columns if column.split("_")[-1] not in ("id", "ago", "days")]
    numbers = ", ".join(f"sum({column})" for column in columns if column not in TEXTS)
    look = f"select {numbers} from answer"
    assert answer("report", name, given, look, studios="0") == answer("report", name, given, look)
    (found,) = answer("report", name, given, "select distinct account_id, region, studio_id from answer", studios="0")
    assert found == (None, None, "other studios")


TEXTS = {"snapshot_date", "day", "region", "currency", "span", "ahead", "ec2_instance_type", "owned_by"}


def test_a_week_that_snapshots_do_not_reach_back_to_is_none():
    """Otherwise everything would have grown without bounds since the first nights."""
    given = f"{WEEKS} delete from nights where nights_ago > 13;"
    look = "select running_hours_before, failures_before, days from answer where studio_id = 's1'"
    assert answer("report", "week", given, look) == [(None, None, 7)]
    given = f"{WEEKS} delete from nights where nights_ago > 2;"
    assert answer("report", "week", given, "select max(days) from answer") == [(3,)]
    given = f"{COSTS} delete from nights where nights_ago > 13;"
    assert answer("report", "costs_of_week", given, "select any_value(cost_before) from answer") == [(None,)]
