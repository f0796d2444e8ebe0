"""What a kill, a power loss or a bad disk leaves of Delta tables: named, mended, and never half of a commit."""

import datetime as dt
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from support.damage import flipped
from support.programs import run_code
from support.shapes import DATE
from support.stores import overwrite
from support.warehouse import WIDE, data_files, live_files, numbers, publish, rows_of, stage

from etl.errors import StorageError, WarehouseError
from etl.load.delta.log import mend
from etl.load.delta.parquet import check_file
from etl.load.delta.tables import Replacement, Tables
from etl.load.delta.upkeep import vacuum
from etl.storage import objects
from etl.storage.disk import Disk

# What a killed attempt leaves


def killed(tables, slices, **rest):
    """Stage rows, whole files and one that is open, and forget them as a killed process does; return what it leaves.

    An open file of a bucket is on the machine that writes it.
    """
    staged = stage(tables, slices, **rest)
    staged._close_file()
    for slice_id in slices:
        staged.write(rows_of(slice_id, [99]))
    staged.write_row_group()
    left = [file.name for file in (*staged._staged, *([staged._file] if tables.store.local else []))]
    staged._file._writer.close()
    assert all_exist(tables, left)
    return left


def all_exist(tables, files):
    return [size is not None for _, size in tables.store.sizes(files)] == [True] * len(files)


def named(tables):
    """Return the files that the log names, as it names them."""
    return tables.files("things", DATE)


def test_fault_32_staged_files_of_a_killed_attempt_are_removed_by_the_next(anywhere):
    """In a bucket by the next vacuum: to look for them would cost each night a request for each table."""
    left = killed(anywhere, {"a": [1]})
    publish(anywhere, {"a": [1]})
    if not anywhere.store.local:
        assert vacuum(anywhere, "things", dt.timedelta(0)) == len(left)
    assert not any(anywhere.store.exists(file) for file in left)
    assert numbers(anywhere) == {(DATE, "a"): [1]}


def test_staged_files_of_another_run_are_left_alone(anywhere):
    """It may be at work at this moment, on another machine."""
    left = killed(anywhere, {"b": [1]}, run="run-2")
    publish(anywhere, {"a": [1]})
    assert all_exist(anywhere, left)


def test_committed_files_of_the_same_run_are_never_removed(anywhere):
    """Not those that are live, and not those that a later commit of the run replaced: a catalog may still name them."""
    publish(anywhere, {"a": [1]}, number=1)
    first = named(anywhere)
    publish(anywhere, {"a": [1], "b": [2]}, number=2)
    second = named(anywhere)
    left = killed(anywhere, {"c": [3]})
    publish(anywhere, {"c": [3]}, number=3)
    assert all_exist(anywhere, left) == (anywhere.store.local is None)  # there, they wait for a vacuum
    assert all_exist(anywhere, [*first, *second])
    assert set(first).isdisjoint(named(anywhere))  # the case that this is about did happen
    assert numbers(anywhere) == {(DATE, "a"): [1], (DATE, "b"): [2], (DATE, "c"): [3]}


def test_discarded_stage_leaves_no_file(anywhere):
    staged = stage(anywhere, {"a": [1]})
    staged._close_file()
    staged.write(rows_of("a", [2]))
    staged.discard()
    staged.discard()
    assert data_files(anywhere) == []


def test_stage_that_was_committed_is_not_harmed_by_discard(anywhere):
    staged = stage(anywhere, {"a": [1]})
    staged.commit("run-1", 1)
    staged.discard()
    assert numbers(anywhere) == {(DATE, "a"): [1]}


def test_table_whose_first_commit_was_killed_half_way_is_made_anew(anywhere):
    overwrite(anywhere.store, anywhere.store.at("things", "_delta_log", "_commit_some.tmp"), b"{}")
    assert anywhere.read("things") is None
    publish(anywhere, {"a": [1]})
    assert numbers(anywhere) == {(DATE, "a"): [1]}


# Durability: what a disk must be told to keep. A bucket keeps what it has accepted


@pytest.fixture
def synced(monkeypatch):
    """Record, in order, what is synced ("sync", path) and when a log entry is written ("commit", table)."""
    events = []
    fsync, write = os.fsync, DeltaTable.create_write_transaction

    def recorded(descriptor):
        events.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def create_write_transaction(self, *args, **kwargs):
        write(self, *args, **kwargs)
        events.append(("commit", None))

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(DeltaTable, "create_write_transaction", create_write_transaction)
    return events


def test_fault_36_data_is_on_the_disk_before_the_commit_and_the_log_after_it(tables, synced):
    """Otherwise a power loss could leave a log that names files which never reached the disk."""
    publish(tables, {"a": [1], "b": [2]}, run="run-0")  # so that there is something to carry over
    synced.clear()
    publish(tables, {"a": [3]})
    path = tables.store.path / "things"
    commit = synced.index(("commit", None))
    before = {found for _, found in synced[:commit]}
    after = {found for _, found in synced[commit + 1 :]}
    files = live_files(tables)
    assert len(files) == 2  # the staged one and the carried one
    assert {*files, path / f"snapshot_date={DATE}", path} <= before
    assert {path / "_delta_log" / f"{tables.read('things').version:020}.json", path / "_delta_log"} <= after


def test_fault_36_names_are_synced_after_the_files_that_they_name(tables, synced):
    publish(tables, {"a": [1]})
    order = [found for _, found in synced]
    (file,) = live_files(tables)
    log = tables.store.path / "things/_delta_log"
    assert order.index(file) < order.index(file.parent)
    last = len(order) - 1 - order[::-1].index(log / "00000000000000000001.json")
    assert log in order[last:]


def test_fault_36_every_log_entry_is_synced_be_it_the_first_or_new_columns(tables, synced):
    """The entry that makes the table is as needed as the one that fills it."""
    publish(tables, {"a": [1]})
    publish(tables, {"a": [1]}, run="run-2", schema=WIDE, colour=["red"], weight=[0.5])
    log = sorted((tables.store.path / "things/_delta_log").glob("*.json"))
    assert len(log) == 4  # create, commit, add columns, commit
    assert set(log) <= {found for _, found in synced}
    # An entry that a later one builds on is on the disk before that one is written.
    commits = [place for place, (what, _) in enumerate(synced) if what == "commit"]
    assert ("sync", log[0]) in synced[: commits[0]]
    assert ("sync", log[2]) in synced[commits[0] : commits[1]]


def test_fault_36_own_entry_is_synced_even_if_another_writer_follows_at_once(tables, synced, monkeypatch):
    publish(tables, {"c": [3]}, run="run-0")
    recorded = DeltaTable.create_write_transaction
    others = []

    def then_another(self, *args, **kwargs):
        recorded(self, *args, **kwargs)
        if not others:
            others.append(True)
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", lambda _descriptor: None)  # on another machine
                publish(tables, {"b": [2]}, run="run-2")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", then_another)
    publish(tables, {"a": [1]})
    assert others
    assert ("sync", tables.store.path / "things/_delta_log/00000000000000000002.json") in synced


def test_fault_36_commit_found_by_the_next_run_is_synced_by_it(tables, synced):
    """Its answer may have been lost before it was synced."""
    publish(tables, {"a": [1]})
    synced.clear()
    publish(tables, {"a": [1]})
    assert ("sync", tables.store.path / "things/_delta_log/00000000000000000001.json") in synced


# Disks that say no, files that are not what was written


def damage_page(content):
    """Flip a bit in the last byte of a column that everybody reads; the bytes of page headers have no checksum."""
    metadata = pq.ParquetFile(pa.BufferReader(content)).metadata
    column = metadata.row_group(metadata.num_row_groups - 1).column(0)
    assert column.path_in_schema == "slice_id"
    return flipped(content, column.dictionary_page_offset + column.total_compressed_size - 1, 0x10)


DAMAGE = {
    "missing": lambda _: None,
    "empty": lambda _: b"",
    "truncated": lambda content: content[:-100],
    "another end": lambda content: flipped(content, -2, 0x10),
    "flipped byte in a page": damage_page,
    "another file": lambda _: b"hello",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_fault_39_damaged_file_is_named_whoever_reads_it_and_nothing_is_committed(anywhere, kind):
    publish(anywhere, {"a": [1], "b": list(range(1000))})
    (file,) = named(anywhere)
    overwrite(anywhere.store, file, DAMAGE[kind](anywhere.store.read(file)))
    version = anywhere.read("things").version
    for ask in (
        lambda: check_file(anywhere.store, file),
        lambda: anywhere.count("things", Replacement(DATE, "slice_id", ("a",))),
        lambda: publish(anywhere, {"a": [2]}, run="run-2"),
    ):
        with pytest.raises(WarehouseError) as caught:
            ask()
        assert file in str(caught.value)
    assert anywhere.read("things").version == version
    left = {path.name for path in data_files(anywhere)} - {file.rpartition("/")[2]}
    assert [name for name in left if not name.startswith("run-2-")] == []


def test_fault_39_failed_carry_over_leaves_no_file_of_its_own(anywhere):
    publish(anywhere, {"a": [1], "b": list(range(1000))})
    (file,) = named(anywhere)
    overwrite(anywhere.store, file, damage_page(anywhere.store.read(file)))
    staged = stage(anywhere, {"a": [2]}, run="run-2")
    with pytest.raises(WarehouseError):
        staged.commit("run-2", 1)
    staged.discard()
    assert [path.name for path in data_files(anywhere)] == [file.rpartition("/")[2]]


def test_fault_39_flipped_byte_anywhere_in_the_pages_is_noticed_or_harmless(anywhere, monkeypatch):
    """Checksums cover the pages; a flip that is not noticed must not change a value."""
    monkeypatch.setattr(objects, "_SMALL_BYTES", 0)  # or it would be read once
    publish(anywhere, {"a": list(range(200))})
    (file,) = named(anywhere)
    content = anywhere.store.read(file)
    rows = pq.ParquetFile(pa.BufferReader(content)).read()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    chance, noticed = random.Random(39), 0
    for _ in range(150):
        harmed = flipped(content, chance.randrange(4, footer), 0x10)
        overwrite(anywhere.store, file, harmed)
        try:
            check_file(anywhere.store, file)
        except WarehouseError:
            noticed += 1
        else:
            assert pq.ParquetFile(pa.BufferReader(harmed)).read() == rows
    assert noticed > 100
    overwrite(anywhere.store, file, content)
    check_file(anywhere.store, file)


NEWER = {
    "unreadable": ('"minReaderVersion":99,"minWriterVersion":99', r"reader version 99\b"),
    "only to be read": ('"minReaderVersion":1,"minWriterVersion":9', r"reader version 1, writer version 9\b"),
    "with features": (
        (
            '"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],'
            '"writerFeatures":["deletionVectors"]'
        ),
        r"reader version 3, writer version 7\b",
    ),
}


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("kind", NEWER)
def test_fault_40_table_of_a_newer_version_is_refused_with_both_versions(anywhere, kind, is_open):
    """Also where deltalake would go on: data files alone, as we read them, no longer say which rows there are."""
    publish(anywhere, {"a": [1]})
    newer, found = NEWER[kind]
    version = anywhere.open("things").version() + 1
    entry = anywhere.store.at("things", "_delta_log", f"{version:020}.json")
    overwrite(anywhere.store, entry, f'{{"protocol":{{{newer}}}}}\n'.encode())
    tables = anywhere if is_open else Tables(anywhere.store)
    before = data_files(anywhere)
    staged = stage(tables, {"a": [2]}, run="run-2")
    for ask in (lambda: tables.read("things"), lambda: staged.commit("run-2", 1)):
        with pytest.raises(WarehouseError, match=f"things: .*{found}.*expected reader version 1, writer version 2"):
            ask()
    staged.discard()
    assert data_files(anywhere) == before


def test_log_that_is_garbage_is_one_line_that_names_the_table(anywhere):
    publish(anywhere, {"a": [1]})
    overwrite(anywhere.store, anywhere.store.at("things", "_delta_log", "00000000000000000001.json"), b"{garbage")
    with pytest.raises(WarehouseError, match=r"things: the table cannot be opened: .*; expected reader") as caught:
        Tables(anywhere.store).read("things")
    assert "\n" not in str(caught.value)


def test_fault_37_disk_that_refuses_leaves_readers_what_they_had(tmp_path):
    """A process of its own under a limit on file sizes: EFBIG where a full disk says ENOSPC."""
    code = """
        import resource, signal, sys
        from pathlib import Path
        from support.shapes import DATE
        from support.warehouse import publish, rows_of, stage
        from etl.errors import StorageError
        from etl.load.delta.tables import Replacement, Tables
        from etl.storage.disk import Disk

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        tables = Tables(Disk(Path(sys.argv[1])))
        publish(tables, {"a": [1]})

        def attempt(name, limit, slices, table):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
            staged = stage(tables, dict.fromkeys(slices, []), run="run-2", table=table)
            try:
                for slice_id, numbers in slices.items():
                    staged.write(rows_of(slice_id, numbers))
                staged.commit("run-2", 1)
            except StorageError as exc:
                print(name, "refused", str(tables.store.path / table) in str(exc), "make room" in str(exc))
            finally:
                staged.discard()
                resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))

        attempt("pages", 20_000, {"b": list(range(50_000))}, "things")
        attempt("footer", 300, {"b": [2]}, "things")
        attempt("new table", 300, {"b": []}, "others")
        print(tables.count("things", Replacement(DATE, "slice_id", ("a", "b"))))
        print(len(list(tables.store.path.rglob("*.parquet"))))
        publish(tables, {"b": [2]}, run="run-2")
        print(tables.count("things", Replacement(DATE, "slice_id", ("a", "b"))))
    """
    done = run_code(code, tmp_path / "warehouse")
    assert done.stdout.splitlines() == [
        "pages refused True True",
        "footer refused True True",
        "new table refused True True",
        "{'a': 1, 'b': 0}",
        "1",
        "{'a': 1, 'b': 1}",
    ], done.stderr


def test_fault_45_warehouse_that_is_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file.*expected a directory there"):
        publish(Tables(Disk(tmp_path / "file")), {"a": [1]})


def test_summing_up_of_another_machine_is_left_alone_and_that_of_a_dead_one_is_not(tables):
    stage(tables, {"a": [1]}).commit("writer", 1)
    fresh, old = (tables.store.path / "things" / f"_checkpoint-{name}" for name in ("fresh", "old"))
    for path in (fresh, old):
        path.mkdir()
    os.utime(old, (0, 0))

    mend(tables.store)

    assert fresh.exists()
    assert not old.exists()


def test_commit_whose_log_cannot_be_summed_up_has_landed_all_the_same(anywhere, monkeypatch, caplog):
    """It is durable by then: an error would leave the other tables of the night uncommitted."""
    monkeypatch.setattr("etl.load.delta.commit._CHECKPOINT_COMMITS", 1)

    def refused(store, name):
        raise StorageError.at(store.at(name), "no room")

    monkeypatch.setattr("etl.load.delta.commit.write_checkpoint", refused)

    stage(anywhere, {"a": [1]}).commit("writer", 1)

    assert numbers(anywhere) == {(DATE, "a"): [1]}
    assert "no room" in caplog.text
