"""How a catalog gets its name: nobody waits for anybody; whatever was there before is rebuilt."""

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
from support.damage import flip_byte
from support.programs import run_code, start_code
from support.shapes import ARRIVED, DATE
from support.stores import address_of, connect, overwrite
from support.thorough import part
from support.warehouse import (
    NEXT_DATE,
    THINGS,
    ask,
    build,
    build_alone,
    place,
    publish,
    publish_slices,
    record_syncs,
    stage,
)  # fmt: skip

from etl.errors import StorageError, WarehouseError
from etl.load.delta import stage as stage_module
from etl.load.delta.tables import Tables
from etl.model import CATALOG_NAME
from etl.storage import disk
from etl.storage.disk import Disk
from etl.storage.locks import Waiting

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
    with connect(night.store) as connection:
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
