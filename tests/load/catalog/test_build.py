"""The catalog: readers see whole nights, and nobody waits for anybody; whatever was there before is rebuilt."""

import datetime as dt
import errno
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.buckets import running
from support.damage import flip_byte
from support.programs import run_code, start_code
from support.shapes import ARRIVED, DATE
from support.stores import KINDS, address_of, connect, overwrite, store_of
from support.thorough import part
from support.warehouse import (
    NEXT_DATE,
    THINGS,
    build,
    build_alone,
    place,
    publish,
    publish_slices,
    record_syncs,
    stage,
)  # fmt: skip

from etl.config import Settings
from etl.errors import StorageError, WarehouseError
from etl.load.catalog import build as module
from etl.load.catalog import relations
from etl.load.delta import commit as commit_module
from etl.load.delta import stage as stage_module
from etl.load.delta.tables import Tables
from etl.model import CATALOG_NAME
from etl.sqlfiles import SqlFile
from etl.storage import disk
from etl.storage.disk import Disk
from etl.storage.locks import Waiting
from etl.transform.facts import ETL_TABLES
from etl.transform.schema import field

HISTORY = "select n from things_history order by n"
CURRENT = "select n from things order by n"
LEFT_OVER = {"etl_slices", "things", CATALOG_NAME}
"""All that is in a warehouse once a catalog was built."""


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    tables = Tables(Disk(tmp_path_factory.mktemp("template") / "warehouse"))
    publish(tables, {"a": [1]})
    publish_slices(tables, ["a"])
    build(tables)
    return tables


@pytest.fixture
def tables(anywhere):
    """In each store, if a test is not `ON_DISK`."""
    return anywhere


@pytest.fixture
def night(template, tables):
    """A warehouse with one row, and its catalog: a copy."""
    for file in template.store.path.rglob("*.*"):
        if file.is_file():
            overwrite(tables.store, tables.store.at(*file.relative_to(template.store.path).parts), file.read_bytes())
    return tables


ON_DISK = pytest.mark.parametrize("anywhere", ["disk"], indirect=True)
"""For tests about names, syncs, links and modes, which a bucket does not have."""


@contextmanager
def connected(tables):
    """Connect as any reader would."""
    with connect(tables.store) as connection:
        yield connection


def ask(tables, statement):
    """Return the first column of an answer."""
    with connected(tables) as connection:
        return connection.sql(statement).to_arrow_table().column(0).to_pylist()


def catalog_of(tables):
    """Return the bytes of the catalog; None if there is none."""
    return tables.store.read(tables.store.at(CATALOG_NAME))


def in_directory(tables):
    """Return the names of what is directly in the warehouse."""
    return {entry.name for entry in place(tables).iterdir()}


@contextmanager
def process(code, *arguments, **environment):
    """Run Python code in a process of its own; yield a function that sends it a line and returns its answer.

    A command of None only waits for a line.
    """
    child = start_code(code, *arguments, environment=environment, stdin=subprocess.PIPE)

    def talk(line=None):
        if line is not None:
            child.stdin.write(f"{line}\n")
            child.stdin.flush()
        return child.stdout.readline().rstrip("\n")

    with child:
        try:
            yield talk
        finally:
            child.stdin.close()
            talk.exit_code = child.wait()


READER = """
    import sys
    from support.stores import connect, store_at

    store = store_at(*sys.argv[1:3])
    connection = connect(store, read_only=sys.argv[3] == "read-only", config={"threads": 1})
    connection.execute("set enable_progress_bar = false")  # after two seconds it would stand among the answers
    for line in sys.stdin:
        print(eval(line), flush=True)
"""


# What it shows


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

    with connected(tables) as connection:
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
    with connected(tables) as connection:
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
    with connected(tables) as connection:
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
    with connected(tables) as connection:
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
    with connected(tables) as connection:
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


# Killed, or refused by the disk


@pytest.mark.parametrize(("step", "shows"), [("half-built", [1]), ("catalog.built", [1]), ("catalog.swapped", [1, 2])])
def test_fault_34_killed_while_the_catalog_is_swapped_it_is_the_old_or_the_new_and_rebuilt_next(night, step, shows):
    publish(night, {"b": [2]}, run="run-2")
    code = """
        import os, sys
        import support.killable
        from support.stores import store_at
        from support.warehouse import build
        from etl.load.delta.tables import Tables
        from etl.load.catalog import build as catalog

        if os.environ["NIMBLE_ETL_FAILPOINT"] == "half-built":
            catalog.add_flat_views = lambda *_: os.kill(os.getpid(), 9)
        build(Tables(store_at(*sys.argv[1:])))
    """
    with process(code, *address_of(night.store), NIMBLE_ETL_FAILPOINT=step) as talk:
        pass
    assert talk.exit_code == -signal.SIGKILL
    assert (".warehouse.duckdb.new" in in_directory(night)) == bool(night.store.local and step != "catalog.swapped")
    assert ask(night, HISTORY) == shows
    build(night)
    assert ask(night, HISTORY) == [1, 2]
    assert in_directory(night) == LEFT_OVER


def test_fault_34_first_catalog_of_all_is_whole_or_not_there(tables):
    publish(tables, {"a": [1]})
    code = """
        import sys
        import support.killable
        from support.stores import store_at
        from support.warehouse import build
        from etl.load.delta.tables import Tables

        build(Tables(store_at(*sys.argv[1:])))
    """
    with process(code, *address_of(tables.store), NIMBLE_ETL_FAILPOINT="catalog.built") as talk:
        pass
    assert talk.exit_code == -signal.SIGKILL
    assert catalog_of(tables) is None
    build(tables)
    assert ask(tables, HISTORY) == [1]


def test_fault_37_disk_that_refuses_at_any_size_leaves_the_old_catalog_and_no_draft(night):
    """Closing a DuckDB file is silent where the disk refuses the last write: then a file without any table is left."""
    content = catalog_of(night)
    code = """
        import resource, signal, sys
        from support.stores import store_at
        from support.warehouse import build
        from etl.load.delta.tables import Tables
        from etl.errors import StorageError

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = store_at(*sys.argv[1:3])
        draft = store.draft(store.at(".warehouse.duckdb.new"))
        Tables(store).versions()  # in a bucket, this copies the logs
        place = sys.argv[1] if store.local else f"{draft.parent}/"
        for limit in map(int, sys.argv[3:]):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
            try:
                build(Tables(store))
            except StorageError as exc:
                said = place in str(exc) and "; the old one stays (" in str(exc) and "make room" in str(exc)
            else:
                said = "built"
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
            print(said, [one.name for one in draft.parent.iterdir() if ".duckdb.new" in one.name])
    """
    limits = [0, 5_000, 12_000, 15_000, 20_000, 30_000, len(content) // 2, len(content) - 1]
    with process(code, *address_of(night.store), *limits) as talk:
        assert [talk() for _ in limits] == ["True []"] * len(limits)
    assert talk.exit_code == 0
    assert catalog_of(night) == content
    assert in_directory(night) == LEFT_OVER


@ON_DISK
@pytest.mark.parametrize("part", ["sync_file", "sync_directory"])
def test_fault_37_failed_sync_is_a_storage_error_and_leaves_no_draft(night, monkeypatch, part):

    def fail(_path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(disk, part, fail)
    with pytest.raises(
        StorageError, match=r"warehouse\.duckdb: Input/output error \([\d,]+ MB free\); make room or repair"
    ):
        build(night)
    assert ask(night, HISTORY) == [1]
    assert in_directory(night) == LEFT_OVER


@ON_DISK
def test_fault_36_the_new_file_is_on_the_disk_before_it_has_the_name_and_then_the_name(tables, monkeypatch):
    publish(tables, {"a": [1]})
    events = record_syncs(monkeypatch)
    build(tables)
    draft = ".warehouse.duckdb.new"
    assert events == [("sync", draft), ("rename", draft), ("sync", "warehouse")]


@pytest.mark.parametrize("cut", [None, -50])
def test_fault_39_missing_or_truncated_data_file_is_named_and_the_old_catalog_stays(night, cut):
    publish(night, {"b": [2]}, date=NEXT_DATE, run="run-2")
    content = catalog_of(night)
    (file,) = night.read("things").files[NEXT_DATE]
    overwrite(night.store, file, cut and night.store.read(file)[:cut])
    with pytest.raises(
        WarehouseError, match=r"the catalog cannot be built: .*the old one stays\. Run `nimble-etl verify`"
    ) as caught:
        build(night)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)
    assert catalog_of(night) == content
    assert in_directory(night) == LEFT_OVER


def test_fault_40_table_of_a_newer_version_leaves_the_old_catalog(night):
    content = catalog_of(night)
    entry = night.store.at("things", "_delta_log", "00000000000000000000.json")
    newer = night.store.read(entry).replace(b'"minReaderVersion":1', b'"minReaderVersion":42')
    overwrite(night.store, entry, newer)
    assert b"42" in newer
    with pytest.raises(WarehouseError, match=r"reader version 42.*expected reader version 1"):
        build(night)
    assert catalog_of(night) == content
    assert in_directory(night) == LEFT_OVER


def test_fault_45_warehouse_that_is_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/warehouse\.duckdb: .*expected a directory there"):
        build(Tables(Disk(tmp_path / "file")))


# Readers


def test_fault_50_reader_in_mid_query_during_a_swap_finishes_on_its_snapshot(tables, monkeypatch):
    monkeypatch.setattr(stage_module, "_FILE_BYTES", 0)
    monkeypatch.setattr(stage_module, "_ROW_GROUP_BYTES", 0)
    staged = stage(tables, {"a": []})
    rows, files = 5_000, 4
    one = [{"snapshot_date": DATE, "slice_id": "a", "n": 1, "text": "x", "tags": [], "at": ARRIVED}] * rows
    for _ in range(files):
        staged.write(pa.RecordBatch.from_pylist(one, schema=THINGS))
    staged.commit("run-1", 1)
    build(tables)
    old = tables.read("things").files[DATE]
    assert len(old) == files
    query = "connection.execute('select n, i from things_history, range(100) t(i)')"
    with process(READER, *address_of(tables.store), "read-only") as talk:
        assert talk(f"(query := {query}).fetchone()") == "(1, 0)"
        publish(tables, {"a": [2]}, run="run-2")
        build(tables)
        assert ask(tables, HISTORY) == [2]
        assert set(old).isdisjoint(tables.read("things").files[DATE])
        rest = "1 + sum(len(some) for some in iter(lambda: query.fetchmany(10_000), []))"
        assert talk(rest) == str(rows * files * 100)
        # A query that it begins now is on the same snapshot; a new connection is on the new one.
        assert talk("connection.execute('select sum(n)::int from things_history').fetchall()") == f"[({rows * files},)]"
        assert talk("connection.close()") == "None"
        again = "connect(store).execute('select n from things_history').fetchall()"
        assert talk(again) == "[(2,)]"
    assert talk.exit_code == 0


def test_fault_50_whoever_connects_at_any_moment_sees_a_whole_night(tables, tmp_path):
    publish(tables, {"a": [0], "b": [0]})
    publish_slices(tables, ["a", "b"])
    build(tables)
    code = """
        import os, sys
        from support.stores import connect, store_at

        print("ready", flush=True)
        seen = []
        while not os.path.exists(sys.argv[3]):
            with connect(store_at(*sys.argv[1:3])) as connection:
                seen.append(connection.execute("select list(n order by slice_id) from things").fetchone()[0])
                print(seen[-1][0], flush=True)
        print(all(a == b for a, b in seen), seen == sorted(seen), flush=True)
    """
    done = tmp_path / "done"
    with process(code, *address_of(tables.store), done) as talk:
        assert talk() == "ready"
        for n in range(1, 4):
            publish(tables, {"a": [n], "b": [n]}, run=f"night-{n}")
            build(tables)
            for line in iter(talk, str(n)):  # it never waits for us, and comes to see every night
                assert line
        done.touch()
        last = [line for line in iter(talk, "") if line != "3"]
    assert last == ["True True"]


@pytest.mark.parametrize("mode", ["read-only", "read-write"])
def test_fault_51_connection_held_open_all_day_does_not_block_the_job(night, mode):
    """It keeps the night on which it connected; one that could write takes DuckDB's exclusive lock on its file."""
    look = f"connection.execute('{CURRENT}').fetchall()"
    with process(READER, *address_of(night.store), mode) as talk:
        assert talk(look) == "[(1,)]"
        if mode == "read-write":
            if night.store.local:  # in a bucket, each reader has a copy
                with pytest.raises(duckdb.IOException, match="Conflicting lock"):
                    duckdb.connect(night.store.local / CATALOG_NAME)
            assert talk("connection.execute('create table notes as select 1').fetchall()")
        for n in (2, 3):
            publish(night, {"a": [n]}, run=f"run-{n}")
            build(night)
            assert ask(night, CURRENT) == [n]
            assert talk(look) == "[(1,)]"
    assert talk.exit_code == 0
    assert ask(night, CURRENT) == [3]
    assert ask(night, "select 1 from duckdb_tables() where table_name = 'notes'") == []
    assert in_directory(night) == LEFT_OVER


def test_catalog_is_read_only_and_of_the_format_that_every_duckdb_since_1_0_reads(night):
    """BI tools bundle old ones, which cannot open a newer format."""
    catalog = build(night)
    assert catalog is None or catalog.stat().st_mode & 0o777 == 0o444
    with connected(night) as connection:
        ((version,),) = connection.execute(
            "select tags['storage_version'] from duckdb_databases() where database_name = current_database()"
        ).fetchall()
    assert version.startswith("v1.0.0"), version


# Whatever was there before


def damaged(place, cut):
    def damage(catalog):
        flip_byte(catalog, place)
        catalog.write_bytes(catalog.read_bytes()[:cut])

    return damage


def foreign(catalog):
    catalog.unlink()
    with duckdb.connect(catalog) as connection:
        connection.execute("create table things as select 'theirs' as n; create table secrets as select 1")


def unfinished(file):
    """Leave a database and a log that its writer had no time to put into it."""
    code = """
        import os, sys
        import duckdb
        connection = duckdb.connect(sys.argv[1])
        connection.execute("create table left_behind as select 1")
        os.kill(os.getpid(), 9)
    """
    run_code(code, file)
    assert Path(f"{file}.wal").stat().st_size


def draft_of(catalog):
    return catalog.with_name(f".{CATALOG_NAME}.new")


CONTENTS = {
    "missing": Path.unlink,
    "empty": lambda catalog: catalog.write_bytes(b""),
    "text": lambda catalog: catalog.write_text("hello"),
    "half-written": damaged(-1, 20_000),
    "damaged header": damaged(10, None),
    "damaged block": damaged(13_000, None),
    "foreign": foreign,
}
NAMES = {
    "link to elsewhere": lambda catalog: catalog.symlink_to(catalog.replace(catalog.parent.parent / "elsewhere")),
    "log left behind": unfinished,
    "log of garbage": lambda catalog: Path(f"{catalog}.wal").write_bytes(b"garbage" * 99),
    "draft left behind": lambda catalog: unfinished(draft_of(catalog)),
    "draft of garbage": lambda catalog: draft_of(catalog).write_bytes(b"garbage" * 99),
    "log of a draft": lambda catalog: Path(f"{draft_of(catalog)}.wal").write_bytes(b"garbage" * 99),
}


def check_it_is_rebuilt(night):
    build(night)

    assert ask(night, CURRENT) == [1]
    assert ask(night, "select 1 from duckdb_tables() where table_name in ('left_behind', 'secrets')") == []
    assert in_directory(night) == LEFT_OVER


@pytest.mark.parametrize("kind", CONTENTS)
def test_fault_52_whatever_lies_in_place_of_the_catalog_is_rebuilt(night, tmp_path, kind):
    original, copy = catalog_of(night), tmp_path / "copy"
    copy.write_bytes(original)
    CONTENTS[kind](copy)
    overwrite(night.store, night.store.at(CATALOG_NAME), copy.read_bytes() if copy.exists() else None)
    assert catalog_of(night) != original

    check_it_is_rebuilt(night)


@ON_DISK
@pytest.mark.parametrize("kind", NAMES)
def test_fault_52_whatever_has_the_names_that_a_disk_needs_is_removed(night, kind):
    catalog, files = night.store.path / CATALOG_NAME, in_directory(night)
    NAMES[kind](catalog)
    assert catalog.is_symlink() or in_directory(night) != files

    check_it_is_rebuilt(night)

    assert not catalog.is_symlink()


@ON_DISK
def test_fault_52_directory_in_place_of_the_catalog_is_not_deleted(tables):
    (tables.store.path / CATALOG_NAME / "theirs").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"warehouse\.duckdb: Is a directory"):
        build(tables)
    assert (tables.store.path / CATALOG_NAME / "theirs").is_dir()
    assert in_directory(tables) == {CATALOG_NAME}


# Two jobs, one warehouse


def test_fault_42_two_jobs_that_build_at_once_leave_a_whole_catalog_of_the_newest_commits(night, monkeypatch):
    """One is in the middle of its draft when the other begins: it waits, and then sees more than the first."""
    code = """
        import sys
        from support.stores import store_at
        from support.warehouse import build_alone
        from etl.load.delta.tables import Tables
        from etl.load.catalog import build as catalog

        real = catalog.add_flat_views

        def in_the_middle(*arguments):
            print("in the middle", flush=True)
            sys.stdin.readline()
            real(*arguments)

        catalog.add_flat_views = in_the_middle
        build_alone(Tables(store_at(*sys.argv[1:])))
        print("done", flush=True)
    """
    waits, go_on = threading.Event(), Waiting.go_on

    def announced(*arguments):
        waits.set()
        go_on(*arguments)

    monkeypatch.setattr(Waiting, "go_on", announced)
    with process(code, *address_of(night.store)) as talk:
        assert talk() == "in the middle"
        publish(night, {"b": [2]}, run="run-2")
        publish_slices(night, ["b"], run="run-2")
        other = threading.Thread(target=build_alone, args=[night])
        other.start()
        assert waits.wait(timeout=60)
        assert talk("go on") == "done"
        other.join()
    assert talk.exit_code == 0
    assert ask(night, CURRENT) == [1, 2]
    assert in_directory(night) == {*LEFT_OVER, ".lock"}


def test_fault_42_of_builders_that_race_none_puts_an_older_catalog_in_place_of_a_newer_one(night):
    """Nobody waits for a build to end before the next rows are published, so builds begin at any moment."""
    code = """
        import sys
        from support.stores import store_at
        from support.warehouse import build_alone
        from etl.load.delta.tables import Tables

        for _ in range(int(sys.stdin.readline())):
            build_alone(Tables(store_at(*sys.argv[1:])))
        print("built", flush=True)
    """
    seen, published = [1], 1
    with process(code, *address_of(night.store)) as one, process(code, *address_of(night.store)) as other:
        with ThreadPoolExecutor(2) as pool:
            builds = [pool.submit(talk, len(part(range(100), 10))) for talk in (one, other)]
            while not all(build.done() for build in builds):
                published += 1
                publish(night, {f"s{published}": [published]}, run=f"run-{published}")
                seen.append(len(ask(night, HISTORY)))
        assert [build.result() for build in builds] == ["built", "built"]
    assert (one.exit_code, other.exit_code) == (0, 0)
    assert seen == sorted(seen)
    assert len(set(seen)) > 2, "readers saw several catalogs"
    build_alone(night)
    assert len(ask(night, HISTORY)) == published
