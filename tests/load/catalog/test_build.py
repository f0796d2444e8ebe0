"""What a catalog shows: whole nights, of every column that was ever there."""

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.buckets import running
from support.shapes import ARRIVED, DATE
from support.stores import KINDS, connect, overwrite, store_of
from support.warehouse import NEXT_DATE, THINGS, ask, build, publish, publish_slices, stage

from etl.config import Settings
from etl.load.catalog import build as module
from etl.load.catalog import relations
from etl.load.delta import commit as commit_module
from etl.load.delta.tables import Tables
from etl.sqlfiles import SqlFile
from etl.storage.disk import Disk
from etl.transform.facts import ETL_TABLES
from etl.transform.schema import field

HISTORY = "select n from things_history order by n"


@pytest.fixture
def tables(anywhere):
    """In each store."""
    return anywhere


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=8)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([DATE, NEXT_DATE, NEXT_DATE + dt.timedelta(days=1)]),
            st.sampled_from("ab"),
            st.lists(st.integers(0, 9), max_size=3),
            st.booleans(),
        ),
        max_size=5,
        unique_by=lambda night: night[:2],
    )
)
def test_history_has_every_row_and_the_current_view_the_newest_complete_snapshot(tmp_path_factory, kind, nights):
    tables = Tables(store_of(kind, tmp_path_factory.mktemp("nights")))
    for turn, (date, slice_id, found, whole) in enumerate(nights):
        at = ARRIVED + dt.timedelta(days=turn)
        publish(tables, {slice_id: found}, date=date, run=f"run-{turn}")
        state = {"state": "complete"} if whole else {"state": "walking", "is_partial": True}
        publish_slices(tables, [slice_id], date=date, run=f"run-{turn}", observed_until=at, published_at=at, **state)
    history = sorted((date, slice_id, n) for date, slice_id, found, _ in nights for n in found)
    newest = {}
    for date, slice_id, _, whole in nights:
        if whole:
            newest[slice_id] = max(date, newest.get(slice_id, date))
    current = [row for row in history if newest.get(row[1]) == row[0]]

    build(tables, things_x=THINGS, things=THINGS)

    with connect(tables.store) as connection:
        columns = "snapshot_date, slice_id, n"
        assert connection.execute(f"select {columns} from things_history order by all").fetchall() == history
        assert connection.execute(f"select {columns} from things order by all").fetchall() == current


def test_where_one_walk_has_failed_the_current_view_has_two_dates_and_each_slice_once(tables):
    for run, date, slices in (("run-1", DATE, {"a": [1], "b": [2]}), ("run-2", NEXT_DATE, {"a": [3]})):
        publish(tables, slices, date=date, run=run)
        publish_slices(tables, list(slices), date=date, run=run)

    build(tables)
    assert ask(tables, "select slice_id || n as row from things order by all") == ["a3", "b2"]


def test_only_committed_files_are_read_of_all_that_lie_there(tables):
    publish(tables, {"a": [1], "b": [2]})
    publish(tables, {"a": [3]}, run="run-2")  # the file of run-1 is superseded
    stage(tables, {"a": [4]}, run="run-3")._close_file()  # staged, not committed
    (former,) = (file for file in tables.store.listed(tables.store.at("things")) if "/run-1-" in file)
    overwrite(tables.store, f"{former.rpartition('/')[0]}/stray.parquet", tables.store.read(former))

    build(tables)
    assert ask(tables, HISTORY) == [2, 3]


def test_values_and_types_are_those_of_the_tables(tables):
    text = "'; drop table things; -- \U0001f3ac\n"
    publish(tables, {"a": [1]}, text=[text], tags=[[("Name", "x"), ("name", ""), ("", "'")]])
    publish_slices(tables, ["a"])
    build(tables)
    with connect(tables.store) as connection:
        for view in ("things", "things_history"):
            answer = connection.sql(f"from {view}").to_arrow_table()
            assert answer.to_pylist(maps_as_pydicts="strict") == [
                {
                    "snapshot_date": DATE, "slice_id": "a", "n": 1, "text": text,
                    "tags": {"Name": "x", "name": "", "": "'"}, "at": ARRIVED,
                }
            ]  # fmt: skip
            assert answer.schema.types == THINGS.types


def test_fault_27_column_that_old_files_lack_is_null_there_and_of_the_models_type(tables):
    publish(tables, {"a": [1]})
    wide = pa.schema([*THINGS, field("weight", pa.float64(), "came later"), field("never", pa.int64(), "is never set")])
    publish(tables, {"b": [2]}, date=NEXT_DATE, run="run-2", schema=wide, weight=[1.5], never=[None])
    build(tables)
    with connect(tables.store) as connection:
        answer = connection.sql("select weight, never from things_history order by n").to_arrow_table()
    assert answer.to_pylist() == [{"weight": None, "never": None}, {"weight": 1.5, "never": None}]
    assert answer.schema.types == [pa.float64(), pa.int64()]


def test_fault_27_column_of_a_table_whose_log_tells_only_of_the_first_32_is_not_lost(tables, monkeypatch):
    """So were tables made before; Delta keeps null counts of no more columns, unless it is told to."""
    many = [field(f"c{number:02}", pa.int32(), "one of many") for number in range(40)]
    with monkeypatch.context() as patch:
        patch.setattr(commit_module, "CONFIGURATION", {})
        values = {column.name: [number] for number, column in enumerate(many)}
        publish(tables, {"a": [1]}, schema=pa.schema([*THINGS, *many]), **values)
    (facts,) = tables.read("things", with_facts=True).facts.values()
    assert facts.nulls == {}
    build(tables)
    assert ask(tables, "select c39 from things_history") == [39]


def begin_commit(tables):
    """Leave what the first commit to a table leaves if it is killed half-way."""
    overwrite(tables.store, tables.store.at("half", "_delta_log", "_commit_some.tmp"), b"{}")


def test_fault_27_known_table_exists_with_its_types_before_its_first_row(tables):
    """A query or a dashboard does not break because a night had no tags, or no rejects."""
    publish(tables, {"a": []}, table="nothing_yet")
    begin_commit(tables)
    build(tables, half=THINGS, other=THINGS)
    with connect(tables.store) as connection:
        for name in ("nothing_yet", "half", "other", "other_history"):
            answer = connection.sql(f"from {name}").to_arrow_table()
            assert (answer.num_rows, answer.schema.names, answer.schema.types) == (0, THINGS.names, THINGS.types)
        for name, schema in ETL_TABLES.items():
            assert connection.sql(f"from {name}").to_arrow_table().schema.types == schema.types


def test_table_whose_first_commit_was_killed_half_way_is_not_shown(tables):
    publish(tables, {"a": [1]})
    begin_commit(tables)
    build(tables)
    assert ask(tables, "select 1 from duckdb_views() where view_name like 'half%'") == []


def test_every_column_is_described_in_history_and_current_view(tables):
    publish(tables, {"a": [1]})
    expected = {column.name: column.metadata[b"description"].decode() for column in THINGS}
    assert any("'" in text and '"' in text for text in expected.values())  # the hard case is among them
    build(tables)
    with connect(tables.store) as connection:
        for view in ("things", "things_history"):
            found = connection.execute(
                "select column_name, comment from duckdb_columns() where table_name = ?", [view]
            ).fetchall()
            assert dict(found) == expected


def test_mart_is_a_table_inside_the_file(tables, monkeypatch):
    real = relations.sql_files
    query = "select slice_id, sum(n)::bigint as total from things group by all"
    mart = SqlFile("totals", {"Reads": "things.", "Columns": "total: sum of n [things]."}, (), query)
    other = SqlFile("others", {"Reads": "things, nothing_that_is_there."}, (), "select 1")
    marts = {"others": other, "totals": mart}
    monkeypatch.setattr(relations, "sql_files", lambda kind: {**real(kind), **(marts if kind == "marts" else {})})
    publish(tables, {"a": [1, 2]})
    publish_slices(tables, ["a"])
    build(tables)
    for file in tables.store.listed(tables.store.at("things")):
        overwrite(tables.store, file, None)
    assert ask(tables, "select total from totals") == [3]
    assert ask(tables, "select meaning || unit from etl_columns where column_name = 'total'") == ["sum of nthings"]
    assert ask(tables, "select count(*) from duckdb_tables() where table_name = 'others'") == [0], "it lacks a source"


STUDIO = {"account_id": ["1"], "region": ["r"], "studio_id": ["s1"], "studio_name": ["moon"]}
STUDIOS = pa.schema([*THINGS, *(field(name, pa.string(), name) for name in STUDIO)])


def test_catalog_without_marts_has_views_that_named_queries_read(tables):
    publish(tables, {"a": [1]}, table="studios", schema=STUDIOS, **STUDIO)
    publish_slices(tables, ["a"])
    assert module.build_catalog(tables, module.Content(ETL_TABLES, with_marts=False)) == []
    assert ask(tables, "select studio_name from studio_names") == ["moon"]
    assert ask(tables, "select slice_id from complete_snapshots") == ["a"]
    assert ask(tables, "select 1 from duckdb_tables() where table_name = 'storage_held'") == []


def test_what_is_known_about_past_snapshots_is_not_copied_into_the_catalog(tables):
    """A table would grow with every slice of every night, and be written anew each night."""
    for day in range(3):
        publish_slices(tables, ["a", "b"], date=DATE + dt.timedelta(days=day), run=f"run-{day}", number=day + 1)
    publish_slices(tables, ["b"], run="later", number=9)
    build(tables)
    kinds = "select view_name from duckdb_views() where database_name = 'warehouse' and view_name like '%snapshots'"
    assert ask(tables, f"{kinds} order by all") == ["complete_snapshots", "finished_snapshots", "snapshots"]
    days = range(3)
    shown = ask(tables, "select slice_id || extract(day from snapshot_date) || run_id from snapshots order by all")
    expected = [f"{name}{DATE.day + day}run-{day}" for name in "ab" for day in days]
    assert shown == sorted({*expected, f"b{DATE.day}later"} - {f"b{DATE.day}run-0"})


def test_table_that_a_view_cannot_be_made_of_keeps_no_catalog_from_being_built(tables, caplog):
    """A dataset of another service may be called `studios` too."""
    publish(tables, {"a": [1]}, table="studios")
    publish_slices(tables, ["a"])
    assert module.build_catalog(tables, module.Content(ETL_TABLES, with_marts=False)) == []
    assert "are left out: Binder Error" in caplog.text
    assert ask(tables, "select n from studios") == [1]
    assert ask(tables, "select 1 from duckdb_views() where view_name = 'studio_names'") == []


@pytest.mark.parametrize("name", ["with space", "Größe-映画", 'it\'s "here"', "a=b&c#d", "*", "[ab]", "; drop"])
def test_fault_53_warehouse_of_any_name_is_queried(tmp_path, name):
    """On a disk. In a bucket, `warehouse.path` has fewer characters: see the test after this."""
    tables = Tables(Disk(tmp_path / name))
    publish(tables, {"a": [1], "b": [2]})
    build(tables)
    assert ask(tables, HISTORY) == [1, 2]


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("name", ["snapshot_date=2020-01-01/x", "it's(here)!", "a+b_c.d/..e-f"])
def test_fault_53_warehouse_of_any_prefix_that_is_allowed_is_queried(kind, name):
    store = running(kind).store(name)
    assert Settings.model_validate({"warehouse": {"path": store.uri}}).warehouse.path == store.uri
    tables = Tables(store)
    publish(tables, {"a": [1], "b": [2]})
    build(tables)
    assert ask(tables, HISTORY) == [1, 2]


@pytest.mark.parametrize("name", ["a*", "[ab]", "a?", "a#b", "a%20b", "a&b", "a b", "a//b"])
def test_prefix_that_some_reader_would_take_for_a_pattern_or_another_name_is_refused(name):
    """DuckDB reads `*` as many files, and what comes after `#` is no part of a URI."""
    with pytest.raises(ValueError, match="expected a path, or s3://bucket/prefix"):
        Settings.model_validate({"warehouse": {"path": f"s3://a-bucket/{name}"}})


def test_fault_54_hostile_column_names_are_names(tables):
    name = 'x" from y; drop table z; --'
    schema = pa.schema([*THINGS, field(name, pa.string(), "'; drop table z; --")])
    publish(tables, {"a": [1]}, schema=schema, **{name: ["kept"]})
    publish_slices(tables, ["a"])
    build(tables)
    assert ask(tables, 'select "x"" from y; drop table z; --" from things') == ["kept"]
