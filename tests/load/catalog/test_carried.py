"""Marts that are carried on have, to the last row, what they have in a catalog that is made anew."""

import datetime as dt
import re

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shapes import ACCOUNT, ARRIVED, REGION
from support.stores import KINDS, connect, overwrite, store_of
from support.thorough import THOROUGH
from support.warehouse import CARRIED, publish_slices, write_into

from etl.extract.datasets import select_datasets
from etl.extract.service_model import describe_operation, model_session
from etl.load.catalog import carried
from etl.load.catalog.build import Content, build_catalog
from etl.load.delta import upkeep
from etl.load.delta.stage import Stage
from etl.load.delta.tables import Replacement, Tables
from etl.model import CATALOG_NAME
from etl.sqlfiles import SqlFile, sql_files
from etl.transform.facts import ETL_TABLES
from etl.transform.schema import layout_of

SESSIONS = select_datasets(["streaming_sessions"])["streaming_sessions"]
LAYOUT = layout_of(SESSIONS, describe_operation(model_session(), SESSIONS))
LOG = LAYOUT.changes_table
SHOWN = {**ETL_TABLES, **LAYOUT.schemas, LOG: LAYOUT.changes}
FIRST = ARRIVED.date()


def day(number):
    return FIRST + dt.timedelta(days=number)


def at(number):
    """Return 20:00 UTC of the day before; None for no number."""
    return None if number is None else dt.datetime.combine(day(number), dt.time(), dt.UTC) - dt.timedelta(hours=4)


def change(session, kind="changed", *, started=None, **values):
    """Return what the change log says of a session."""
    return {
        "session_id": session, "change": kind, "state": "READY", "previous_date": None, "created_at": at(-3),
        "started_at": at(started), "updated_at": at(started), "owned_by": "ann", "ec2_instance_type": "g5.xlarge",
        "launch_profile_id": "p", "tags": [("Shot", "1")], "volume_configuration_size": 100, **values,
    }  # fmt: skip


def night(tables, number, changes, slice_id="a", run=None):
    """Publish the changes of one slice and date in the place of those that are there, as a night or a replay does."""
    run = run or f"run-{number}"
    head = {"snapshot_date": day(number), "slice_id": slice_id, "account_id": ACCOUNT, "region": REGION, "run_id": run}
    rows = [{**head, "studio_id": slice_id, "extracted_at": ARRIVED, **row} for row in changes]
    staged = Stage(tables, LOG, LAYOUT.changes, Replacement(day(number), "slice_id", (slice_id,)), run)
    staged.write(pa.RecordBatch.from_pylist(rows, schema=LAYOUT.changes))
    staged.commit(f"nimble-etl/{run}/{LOG}", 1)
    publish_slices(tables, [slice_id], date=day(number), run=run, dataset=SESSIONS.name)


def build(tables, **options):
    """Build the catalog and return its tables, but for the statistics in the dictionary."""
    assert [
        check for check in build_catalog(tables, Content(SHOWN), **options) if check.name == "marts_are_built"
    ] == []
    with connect(tables.store) as connection:
        names = [name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()]
        return {
            name: sorted(connection.execute(f"select to_json(rows)::varchar from {name} as rows").fetchall())
            for name in names
        }


def put_back(tables, catalog):
    name = tables.store.at(CATALOG_NAME)
    overwrite(tables.store, name, None)
    overwrite(tables.store, name, catalog)


def mark(tables, statement="update session_starts set owned_by = 'of the former catalog'", *, as_if_made=True):
    """Change the catalog as another program would; with `as_if_made`, so that nobody can notice it."""
    write_into(tables.store.local / CATALOG_NAME, statement, as_if_made=as_if_made)


def marked(tables):
    """Return the sessions of which the catalog says what `mark` has written."""
    with connect(tables.store) as connection:
        found = connection.execute("select session_id from session_starts where owned_by like 'of the %' order by 1")
        return [session for (session,) in found.fetchall()]


@pytest.fixture
def tables(tmp_path):
    """Two nights with the sessions a to e, and the catalog of them."""
    found = Tables(store_of("disk", tmp_path / "warehouse"))
    night(found, 0, [change(session, "appeared", started=0) for session in "abcde"])
    night(found, 1, [change("a", started=1, previous_date=day(0))])
    build(found)
    return found


instants = st.one_of(st.none(), st.integers(-1, 6))
changes = st.builds(
    change,
    st.sampled_from("abcdef"),
    st.sampled_from(["appeared", "changed", "changed", "vanished"]),
    started=instants,
    state=st.sampled_from(["READY", "READY", "STOPPED", "START_FAILED", "DELETED", "CREATE_IN_PROGRESS"]),
    stopped_at=instants.map(at),
    updated_at=instants.map(at),
    previous_date=st.one_of(st.none(), st.integers(0, 5).map(day)),
    owned_by=st.sampled_from(["ann", "ben", None]),
    tags=st.sampled_from([None, [], [("Shot", "1")], [("Shot", "2")]]),
    volume_configuration_size=st.sampled_from([None, 100, 200]),
    changed_columns=st.sampled_from([None, ["state"], ["state", "volume_configuration_size"]]),
    old_values=st.sampled_from(
        [None, [("state", '"STOPPED"')], [("state", '"READY"'), ("volume_configuration_size", "7")]]
    ),
)
publishing = st.tuples(
    st.just("night"), st.integers(0, 5), st.sampled_from("ab"),
    st.lists(changes, max_size=6, unique_by=lambda row: row["session_id"]),
)  # fmt: skip
upkeeping = st.tuples(st.sampled_from(["drop", "no catalog"]), st.integers(0, 5))


@settings(deadline=None, max_examples=60 if THOROUGH else 8)
@given(st.lists(st.one_of(publishing, publishing, publishing, upkeeping), min_size=2, max_size=6))
def test_carried_marts_are_those_of_a_catalog_that_is_made_anew_after_any_history(tmp_path_factory, history):
    """Nights in any order, again and late, several between two catalogs, and rows removed."""
    store = store_of("disk", tmp_path_factory.mktemp("history"))
    tables = Tables(store)
    for turn, (what, number, *rest) in enumerate(history):
        if what == "night":
            night(tables, number, rest[1], rest[0], run=f"run-{turn}")
        elif what == "drop":
            upkeep.drop(tables, LOG, day(number))
        if history[turn + 1 : turn + 2] and history[turn + 1][0] == "no catalog":
            continue
        carried_on = build(tables)
        catalog = store.read(store.at(CATALOG_NAME))
        assert carried_on == build(tables, anew=True)
        put_back(tables, catalog)


def test_only_sessions_with_new_changes_are_looked_at_again(tables):
    mark(tables)
    assert marked(tables) == ["a", "a", "b", "c", "d", "e"]
    night(tables, 2, [change("b", started=2, previous_date=day(1)), change("f", "appeared", started=2)])
    night(tables, 3, [change("c", "vanished", started=0, previous_date=day(2))])
    build(tables)
    assert marked(tables) == ["a", "a", "d", "e"]
    build(tables)
    assert marked(tables) == ["a", "a", "d", "e"]


def test_a_late_night_that_takes_no_file_away_is_carried_on(tables):
    night(tables, 3, [change("b", started=3, previous_date=day(1))])
    build(tables)
    mark(tables)
    night(tables, 2, [change("b", "vanished", started=0, previous_date=day(1))], slice_id="other")
    night(tables, 2, [change("d", "vanished", started=0, previous_date=day(1))], run="run-late")
    build(tables)
    assert marked(tables) == ["a", "a", "b", "b", "c", "e"]


def again(tables, _):
    night(tables, 1, [change("a", started=1, previous_date=day(0))], run="run-again")


def dropped(tables, _):
    upkeep.drop(tables, LOG, day(0))


def another_duckdb(_, monkeypatch):
    monkeypatch.setattr(duckdb, "__version__", "2.0.0-other")


def another_query(_, monkeypatch):
    files = sql_files("marts")
    text = re.sub("select", "select /* changed */", files["session_starts"].text, count=1)
    changed = SqlFile("session_starts", files["session_starts"].headers, (), text)
    monkeypatch.setattr(carried, "sql_files", lambda _: {**files, "session_starts": changed})


def another_type(tables, _):
    wider = LAYOUT.changes.append(pa.field("came_later", pa.string()))
    rows = [{"snapshot_date": day(2), "slice_id": "a", "session_id": "z", "change": "appeared"}]
    staged = Stage(tables, LOG, wider, Replacement(day(2), "slice_id", ("a",)), "run-2")
    staged.write(pa.RecordBatch.from_pylist(rows, schema=wider))
    staged.commit("wider", 1)


def noted_by_nobody(tables, _):
    mark(tables, "drop table etl_carried", as_if_made=False)


def noted_by_another_program(tables, _):
    mark(tables, "update etl_carried set files = null", as_if_made=False)


def written_by_another_program(tables, _):
    mark(tables, "update session_starts set owned_by = 'of the other program'", as_if_made=False)


def with_another_column(tables, _):
    mark(tables, "alter table session_starts add column more integer", as_if_made=False)


def damaged(tables, _):
    path = tables.store.local / CATALOG_NAME
    put_back(tables, path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "happens",
    [
        again, dropped, another_duckdb, another_query, another_type, noted_by_nobody, noted_by_another_program,
        written_by_another_program, with_another_column, damaged,
    ],
)  # fmt: skip
def test_where_more_than_new_changes_has_happened_nothing_is_carried_on(tables, monkeypatch, happens):
    mark(tables)
    happens(tables, monkeypatch)
    build(tables)
    assert marked(tables) == []


def test_a_catalog_that_is_asked_for_is_made_anew(tables):
    mark(tables)
    build(tables, anew=True)
    assert marked(tables) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_catalog_in_a_bucket_is_carried_on_too(tmp_path, kind, monkeypatch):
    tables = Tables(store_of(kind, tmp_path / "warehouse"))
    night(tables, 0, [change("a", "appeared", started=0)])
    build(tables)
    asked = []
    monkeypatch.setattr(carried.Carried, "query", lambda self, file: asked.append(self._former) or file.text)
    build(tables)
    assert set(asked[0]) == set(CARRIED)
