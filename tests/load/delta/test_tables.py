"""Delta tables, in each store: a commit replaces what it names and nothing else, durably, or changes nothing."""

import datetime as dt
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shapes import DATE
from support.stores import KINDS, address_of, as_another_process, overwrite, server_of, store_at, store_of
from support.warehouse import NEXT_DATE, THINGS, WIDE, data_files, live_files, numbers, place, publish, rows_of, stage

from etl.errors import CommitConflictError, CommitUnknownError, StorageError, WarehouseError
from etl.load.delta import commit as module
from etl.load.delta import stage as stage_module
from etl.load.delta.log import write_checkpoint
from etl.load.delta.stage import Stage, make_room
from etl.load.delta.tables import Replacement, Tables
from etl.load.delta.upkeep import vacuum
from etl.storage.disk import Disk
from etl.transform.schema import field

# Replacement


def test_committed_rows_are_what_was_written(anywhere):
    staged = stage(anywhere, {"a": []})
    hostile = ["", "\0", "\U0001f3ac", "a\nb", "'; drop table x; --", "../../x"]
    staged.write(rows_of("a", range(6), text=hostile))
    staged.commit("run-1", 1)
    (file,) = live_files(anywhere)
    expected = rows_of("a", range(6), text=hostile).drop_columns(["snapshot_date"])
    assert pq.ParquetFile(file).read().to_pylist() == expected.to_pylist()
    assert file.parent.name == f"snapshot_date={DATE}"


def test_any_reader_of_delta_tables_sees_the_same(anywhere):
    publish(anywhere, {"a": [1, 2], "b": [3]})
    publish(anywhere, {"a": [9]}, run="run-2")
    table = DeltaTable(place(anywhere) / "things")
    assert sorted(table.to_pyarrow_table().column("n").to_pylist()) == [3, 9]
    assert table.metadata().partition_columns == ["snapshot_date"]
    assert table.history(1)[0]["run_id"] == "run-2"


def test_holder_of_the_lock_sees_what_others_have_committed_before(anywhere):
    """And what it has committed itself, each time."""
    other = Tables(as_another_process(anywhere.store))
    publish(anywhere, {"a": [1]})
    for run in range(2, 5):
        with anywhere.alone():
            publish(anywhere, {"a": [run]}, run=f"run-{run}")
            assert numbers(anywhere)[DATE, "a"] == [run]
        publish(other, {"b": [run]}, run=f"other-{run}")
        with anywhere.alone():
            assert anywhere.names() == ["things"]
            assert numbers(anywhere) == {(DATE, "a"): [run], (DATE, "b"): [run]}


def test_table_that_is_open_is_read_beyond_what_others_have_summed_up(anywhere):
    other = Tables(as_another_process(anywhere.store))
    publish(anywhere, {"a": [1]})
    assert numbers(anywhere) == {(DATE, "a"): [1]}
    for run in range(2, 16):
        publish(other, {"a": [run]}, run=f"run-{run}")
    assert numbers(anywhere) == {(DATE, "a"): [15]}
    assert anywhere.versions() == {"things": 15}


def test_log_that_is_summed_up_already_is_left_as_it_is(anywhere):
    for run in range(1, 11):
        publish(anywhere, {"a": [run]}, run=f"run-{run}")
    for _ in range(2):
        write_checkpoint(anywhere.store, "things")
        vacuum(Tables(as_another_process(anywhere.store)), "things", dt.timedelta(days=1))
    assert numbers(anywhere) == {(DATE, "a"): [10]}


def test_nothing_is_seen_before_the_commit(anywhere):
    staged = stage(anywhere, {"a": [1]})
    assert anywhere.read("things") is None
    staged.commit("run-1", 1)
    staged = stage(anywhere, {"b": [2]}, run="run-2")
    assert numbers(anywhere) == {(DATE, "a"): [1]}
    staged.commit("run-2", 1)
    assert numbers(anywhere) == {(DATE, "a"): [1], (DATE, "b"): [2]}


def test_second_run_for_a_date_replaces_and_never_appends(anywhere):
    for run in ("run-1", "run-2", "run-3"):
        publish(anywhere, {"a": [1, 2]}, run=run)
    assert numbers(anywhere) == {(DATE, "a"): [1, 2]}


def test_rows_of_other_slices_are_carried_over_value_for_value(anywhere):
    publish(anywhere, {"a": [1], "b": [2, 3]})
    before = [row for file in live_files(anywhere) for row in pq.ParquetFile(file).read().to_pylist()]
    publish(anywhere, {"a": [7]}, run="run-2")
    after = [row for file in live_files(anywhere) for row in pq.ParquetFile(file).read().to_pylist()]
    assert [row for row in after if row["slice_id"] == "b"] == [row for row in before if row["slice_id"] == "b"]
    assert numbers(anywhere) == {(DATE, "a"): [7], (DATE, "b"): [2, 3]}


def test_files_without_rows_that_are_replaced_stay_as_they_are(anywhere):
    publish(anywhere, {"a": [1], "b": [2]})
    (first,) = live_files(anywhere)
    publish(anywhere, {"c": [3]}, run="run-2")
    publish(anywhere, {"d": []}, run="run-2", number=2)
    assert len(live_files(anywhere)) == 2
    assert first in live_files(anywhere)

    publish(anywhere, {"b": [4]}, run="run-3")

    assert first not in live_files(anywhere)
    assert len(live_files(anywhere)) == 3, "what it had besides, the other one, and the new one"
    assert numbers(anywhere) == {(DATE, "a"): [1], (DATE, "b"): [4], (DATE, "c"): [3]}


def test_many_files_of_a_date_become_one(anywhere, monkeypatch):
    monkeypatch.setattr(module, "_MOST_FILES", 3)
    for n, name in enumerate("abcd"):
        publish(anywhere, {name: [n]}, run=f"run-{n}")
    assert len(live_files(anywhere)) == 4
    publish(anywhere, {"e": [4]}, run="run-4")
    assert len(live_files(anywhere)) == 2
    assert numbers(anywhere) == {(DATE, name): [n] for n, name in enumerate("abcde")}


def test_other_dates_are_not_touched_not_even_their_files(anywhere):
    publish(anywhere, {"a": [1]}, date=DATE)
    before = {file: file.read_bytes() for file in live_files(anywhere)}
    publish(anywhere, {"a": [2]}, date=NEXT_DATE, run="run-2")
    publish(anywhere, {"a": [3]}, date=NEXT_DATE, run="run-3")
    assert {file: file.read_bytes() for file in live_files(anywhere) if str(DATE) in file.parent.name} == before
    assert numbers(anywhere) == {(DATE, "a"): [1], (NEXT_DATE, "a"): [3]}


def test_slice_that_has_become_empty_has_no_rows_any_more(anywhere):
    publish(anywhere, {"a": [1], "b": [2]})
    publish(anywhere, {"a": []}, run="run-2")
    assert numbers(anywhere) == {(DATE, "b"): [2]}
    publish(anywhere, {"b": []}, run="run-3")
    assert numbers(anywhere) == {}


def test_table_without_any_row_exists_after_its_commit(anywhere):
    publish(anywhere, {"a": []})
    assert anywhere.names() == ["things"]
    assert anywhere.read("things").files == {}
    assert data_files(anywhere) == []


@pytest.mark.parametrize("there", [{}, {"b": [2, 3]}])
def test_nothing_that_replaces_nothing_is_no_commit(anywhere, there):
    publish(anywhere, {"a": [], **there})
    before = anywhere.read("things").version, live_files(anywhere)

    publish(anywhere, {"a": []}, run="run-2")
    assert (anywhere.read("things").version, live_files(anywhere)) == before
    assert data_files(anywhere) == before[1], "what was carried over for nothing is removed"


@settings(deadline=None, max_examples=20)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([DATE, NEXT_DATE]),
            st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 99), max_size=3), min_size=1, max_size=3),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_sequence_of_publications_equals_a_plain_model(tmp_path_factory, nights):
    tables, model = Tables(Disk(tmp_path_factory.mktemp("model"))), {}
    for number, (date, slices) in enumerate(nights):
        publish(tables, slices, date=date, run=f"run-{number}")
        for slice_id, found in slices.items():
            model[date, slice_id] = sorted(found)
        assert numbers(tables) == {key: found for key, found in model.items() if found}


def test_rows_of_a_run_are_replaced_by_run(anywhere):
    """Facts about runs are keyed by run, not by slice."""
    schema = pa.schema([*THINGS, field("run_id", pa.string(), "run")])
    for run, found in (("r1", [1]), ("r2", [2]), ("r1", [3])):
        staged = Stage(anywhere, "etl_x", schema, Replacement(DATE, "run_id", (run,)), run)
        staged.write(rows_of("s", found, schema=schema, run_id=[run] * len(found)))
        staged.commit(f"{run}/{found}", 1)
    assert numbers(anywhere, "etl_x") == {(DATE, "s"): [2, 3]}


def test_many_rows_are_split_into_files_and_all_of_them_committed(anywhere, monkeypatch):
    monkeypatch.setattr(stage_module, "_FILE_BYTES", 0)
    monkeypatch.setattr(stage_module, "_ROW_GROUP_BYTES", 0)
    staged = stage(anywhere, {"a": []})
    for n in range(5):
        staged.write(rows_of("a", [n]))
    staged.commit("run-1", 1)
    assert len(live_files(anywhere)) == 5
    assert numbers(anywhere) == {(DATE, "a"): [0, 1, 2, 3, 4]}


def test_batches_of_any_size_become_row_groups_of_many_rows(anywhere):
    """A row group has its own dictionaries and statistics: small ones cost a third of the bytes."""
    staged = stage(anywhere, {"a": []})
    for n in range(50):
        staged.write(rows_of("a", [n, n], text=["same", f"text {n}"]))
    staged.commit("run-1", 1)
    (file,) = live_files(anywhere)
    assert pq.read_metadata(file).num_row_groups == 1
    assert pq.read_schema(file).field("text").type == pa.string()
    texts = pq.ParquetFile(file).read().column("text").to_pylist()
    assert texts == [text for n in range(50) for text in ("same", f"text {n}")]


def test_texts_that_come_as_dictionaries_are_stored_as_they_are(anywhere):
    """Whether the first batch says that they repeat, or that they do not."""
    for name, texts in (("a", ["x", "x", None, "x"]), ("b", ["p", "q", None, "r"])):
        rows = rows_of(name, range(4), text=texts)
        place = rows.schema.get_field_index("text")
        encoded = rows.set_column(place, "text", rows.column(place).dictionary_encode())
        staged = stage(anywhere, {name: []}, run=f"run-{name}")
        staged.write(encoded)
        staged.write(rows_of(name, range(4), text=texts))
        staged.commit(f"run-{name}", 1)
        (file,) = (file for file in live_files(anywhere) if file.name.startswith(f"run-{name}"))
        assert pq.ParquetFile(file).read().column("text").to_pylist() == 2 * texts


def test_stages_together_keep_no_more_rows_in_memory_than_one_may(anywhere, monkeypatch):
    small, large = (stage(anywhere, {"a": []}, table=name) for name in ("small", "large"))
    small.write(rows_of("a", [1]))
    large.write(rows_of("a", range(100)))
    waiting = small.waiting_bytes
    monkeypatch.setattr(stage_module, "_ROW_GROUP_BYTES", small.waiting_bytes + large.waiting_bytes)
    make_room([small, large])
    assert large._file is None

    monkeypatch.setattr(stage_module, "_ROW_GROUP_BYTES", small.waiting_bytes + large.waiting_bytes - 1)
    make_room([small, large])

    assert (small.waiting_bytes, large.waiting_bytes) == (waiting, 0)
    assert small._file is None
    assert large._file._rows == 100


def test_text_that_repeats_in_the_first_batch_only_is_stored_as_it_is(anywhere):
    staged = stage(anywhere, {"a": []})
    staged.write(rows_of("a", range(4), text=["x", "x", None, "x"]))
    staged.write(rows_of("a", range(4), text=["p", "", None, "q"]))
    staged.commit("run-1", 1)
    (file,) = live_files(anywhere)
    assert pq.ParquetFile(file).read().column("text").to_pylist() == ["x", "x", None, "x", "p", "", None, "q"]


@pytest.mark.parametrize("name", ["with space", "Größe-映画", 'it\'s "here"', "a=b&c#d", "x" * 60])
def test_fault_53_path_of_any_name_works(tmp_path, name):
    tables = Tables(Disk(tmp_path / name))
    publish(tables, {"a": [1], "b": [2]})
    publish(tables, {"a": [3]}, run="run-2")
    assert numbers(tables) == {(DATE, "a"): [3], (DATE, "b"): [2]}
    assert tables.count("things", Replacement(DATE, "slice_id", ("a", "b", "c"))) == {"a": 1, "b": 1, "c": 0}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [name]


def test_warehouse_can_be_moved(anywhere, tmp_path):
    publish(anywhere, {"a": [1]})
    store = anywhere.store
    elsewhere = store_at(str(tmp_path / "elsewhere") if store.local else f"{store.uri}-elsewhere", address_of(store)[1])
    for file in store.listed(store.uri):
        overwrite(elsewhere, f"{elsewhere.uri}{file.removeprefix(store.uri)}", store.read(file))
        overwrite(store, file, None)
    moved = Tables(elsewhere)
    publish(moved, {"b": [2]}, run="run-2")
    assert numbers(moved) == {(DATE, "a"): [1], (DATE, "b"): [2]}


# Columns


def test_fault_27_columns_that_come_later_are_null_in_older_rows(anywhere):
    publish(anywhere, {"a": [1]})
    publish(anywhere, {"b": [2]}, run="run-2", schema=WIDE, colour=["red"], weight=[1.5])
    table = DeltaTable(place(anywhere) / "things").to_pyarrow_table()
    assert {row["slice_id"]: (row["colour"], row["weight"]) for row in table.to_pylist()} == {
        "a": (None, None),
        "b": ("red", 1.5),
    }
    assert [entry.name for entry in anywhere.read("things").schema] == WIDE.names


def test_older_run_that_knows_fewer_columns_loses_none_of_others(anywhere):
    """Two machines on two versions: the one with the older model carries over what it has never heard of."""
    publish(anywhere, {"a": [1], "b": [2]}, schema=WIDE, colour=["red"], weight=[1.5])
    publish(anywhere, {"a": [1]}, run="run-2")
    rows = DeltaTable(place(anywhere) / "things").to_pyarrow_table().to_pylist()
    assert {row["slice_id"]: row["colour"] for row in rows} == {"a": None, "b": "red"}
    assert [entry.name for entry in anywhere.read("things").schema] == WIDE.names


def test_column_of_another_type_is_refused_with_both_types(anywhere):
    publish(anywhere, {"a": [1]})
    changed = pa.schema([entry.with_type(pa.int64()) if entry.name == "n" else entry for entry in THINGS])
    with pytest.raises(WarehouseError, match=r"column n is .*integer.*; the service model now says .*long"):
        publish(anywhere, {"a": [2**40]}, run="run-2", schema=changed)
    assert numbers(anywhere) == {(DATE, "a"): [1]}


def test_descriptions_are_part_of_the_table(anywhere):
    publish(anywhere, {"a": [1]})
    assert anywhere.read("things").schema.field("at").metadata[b"description"] == b"an instant"


# The same commit again


def test_fault_33_commit_that_landed_is_recognised_and_not_repeated(anywhere):
    publish(anywhere, {"a": [1]})
    version = anywhere.read("things").version
    publish(anywhere, {"a": [1]})
    assert anywhere.read("things").version == version
    assert data_files(anywhere) == live_files(anywhere)


def test_commit_is_known_by_its_writer_and_its_number(anywhere):
    assert anywhere.last_transaction("things", "run-1") == 0
    publish(anywhere, {"a": [1]}, number=2)
    publish(anywhere, {"b": [1]}, run="run-2", number=1)
    assert [anywhere.last_transaction("things", run) for run in ("run-1", "run-2", "run-3")] == [2, 1, 0]


def test_next_number_of_the_same_writer_is_another_commit(anywhere):
    publish(anywhere, {"a": [1]})
    publish(anywhere, {"a": [2]}, number=2)
    assert numbers(anywhere) == {(DATE, "a"): [2]}


# Other writers


@pytest.fixture
def before_commit(monkeypatch):
    """Return a setter for what happens after the staged rows are synced and just before the log entry is written.

    One action for each try; what an action itself commits is not interfered with.
    """
    real = DeltaTable.create_write_transaction
    actions, acting = [], []

    def create_write_transaction(self, *args, **kwargs):
        if actions and not acting:
            acting.append(True)
            actions.pop(0)()
            acting.clear()
        return real(self, *args, **kwargs)

    monkeypatch.setattr(DeltaTable, "create_write_transaction", create_write_transaction)
    return actions.extend


@pytest.mark.parametrize("theirs", [{"b": [2]}, {"b": [2], "c": [5]}, {"a": [8]}])
def test_fault_42_conflict_is_retried_and_nobodys_rows_are_lost(anywhere, before_commit, theirs):
    """The other writer commits in the very moment: what it wrote is carried over on the second try."""
    publish(anywhere, {"c": [3]}, run="run-0")
    mine = stage(anywhere, {"a": [1]})
    done = []
    before_commit([lambda: done.append(publish(anywhere, theirs, run="run-2"))])
    mine.commit("run-1", 1)
    assert done
    expected = {(DATE, "c"): [3], **{(DATE, name): found for name, found in theirs.items()}, (DATE, "a"): [1]}
    assert numbers(anywhere) == expected
    assert [anywhere.last_transaction("things", run) for run in ("run-1", "run-2")] == [1, 1]


def test_fault_42_files_of_a_lost_try_are_removed(anywhere, before_commit):
    publish(anywhere, {"c": [3]}, run="run-0")
    mine = stage(anywhere, {"a": [1]})
    before_commit([lambda: publish(anywhere, {"b": [2]}, run="run-2")])
    mine.commit("run-1", 1)
    once_committed = DeltaTable(place(anywhere) / "things").history()
    assert len(once_committed) == 4
    log = "".join(path.read_text() for path in (place(anywhere) / "things/_delta_log").glob("*.json"))
    assert all(file.name in log for file in data_files(anywhere))


def test_fault_42_columns_added_by_another_at_the_same_time_stay(anywhere, before_commit):
    publish(anywhere, {"c": [3]}, run="run-0")
    mine = stage(anywhere, {"a": [1]})
    before_commit([lambda: publish(anywhere, {"b": [2]}, run="run-2", schema=WIDE, colour=["red"], weight=[0.5])])
    mine.commit("run-1", 1)
    rows = DeltaTable(place(anywhere) / "things").to_pyarrow_table().to_pylist()
    assert {row["slice_id"]: row["colour"] for row in rows} == {"a": None, "b": "red", "c": None}


def test_fault_42_writer_that_always_loses_says_so_and_leaves_nothing(anywhere, before_commit):
    publish(anywhere, {"c": [3]}, run="run-0")
    mine = stage(anywhere, {"a": [1]})
    before_commit([lambda n=n: publish(anywhere, {"b": [n]}, run=f"other-{n}") for n in range(5)])
    with pytest.raises(CommitConflictError, match="other writers were faster 5 times"):
        mine.commit("run-1", 1)
    assert numbers(anywhere) == {(DATE, "b"): [4], (DATE, "c"): [3]}
    assert not [file for file in data_files(anywhere) if file.name.startswith("run-1-")]


def test_fault_42_threads_that_make_a_table_at_the_same_time_all_land(anywhere):
    names = list("abcd")
    machines = [Tables(as_another_process(anywhere.store)) for _ in names]
    stages = [stage(one, {name: [1]}, run=f"run-{name}") for one, name in zip(machines, names, strict=True)]
    together = threading.Barrier(len(names))

    def commit(staged, name):
        together.wait()
        staged.commit(f"run-{name}", 1)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(commit, stages, names))
    assert numbers(anywhere) == {(DATE, name): [1] for name in names}


def test_fault_37_48_log_that_cannot_be_read_is_no_missing_table(tmp_path, monkeypatch):
    store = store_of("moto", tmp_path)
    publish(Tables(store), {"a": [1]})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    server_of(store).faults.append(lambda _, key, __: "503" if key.endswith("01.json") else None)
    with pytest.raises(StorageError, match=rf"{store.uri}/things: .*SlowDown"):
        Tables(as_another_process(store)).read("things")
    server_of(store).faults.clear()
    reader = Tables(as_another_process(store))
    (reader.store.mirror.path / "things").touch()
    with pytest.raises(StorageError, match=rf"{store.uri}/things"):
        reader.read("things")
    (reader.store.mirror.path / "things").unlink()
    assert numbers(reader) == {(DATE, "a"): [1]}


def test_fault_83_commit_that_landed_and_whose_answer_was_lost_keeps_its_files(anywhere, monkeypatch):
    """The client of an object store has asked once more, and was told that there is an entry of that number already."""
    publish(anywhere, {"a": [1], "b": [2]}, run="run-0")
    staged = stage(anywhere, {"a": [3]})
    real, lost = DeltaTable.create_write_transaction, [True]

    def committing(*args, **kwargs):
        real(*args, **kwargs)
        if lost.pop():
            raise CommitFailedError("Transaction failed: Version 2 already exists.")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", committing)
    staged.commit("run-1", 1)
    assert not lost
    assert numbers(anywhere) == {(DATE, "a"): [3], (DATE, "b"): [2]}
    assert set(live_files(anywhere)) <= set(data_files(anywhere))


def test_commit_that_failed_half_way_deletes_nothing_and_the_next_run_finds_out(anywhere, monkeypatch):
    """The answer was lost, the entry was written: deleting the data files would break the table."""
    publish(anywhere, {"b": [2]}, run="run-0")
    real = DeltaTable.create_write_transaction

    def lost_answer(self, *args, **kwargs):
        real(self, *args, **kwargs)
        raise OSError("connection reset")

    staged = stage(anywhere, {"a": [1]})
    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "create_write_transaction", lost_answer)
        with pytest.raises(CommitUnknownError, match="nothing was deleted"):
            staged.commit("run-1", 1)
    staged.discard()
    assert numbers(anywhere) == {(DATE, "a"): [1], (DATE, "b"): [2]}
    version = anywhere.read("things").version
    publish(anywhere, {"a": [1]})
    assert anywhere.read("things").version == version


def test_commit_that_failed_before_it_landed_is_made_by_the_next_run(anywhere, monkeypatch):
    publish(anywhere, {"b": [2]}, run="run-0")

    def unreachable(*_args, **_kwargs):
        raise OSError("connection reset")

    staged = stage(anywhere, {"a": [1]})
    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "create_write_transaction", unreachable)
        with pytest.raises(CommitUnknownError):
            staged.commit("run-1", 1)
    assert numbers(anywhere) == {(DATE, "b"): [2]}
    publish(anywhere, {"a": [1]})
    assert numbers(anywhere) == {(DATE, "a"): [1], (DATE, "b"): [2]}
    if anywhere.store.local is None:
        vacuum(anywhere, "things", dt.timedelta(0))  # nobody looks for them in an object store before
    live = live_files(anywhere)
    assert [file for file in data_files(anywhere) if file.name.startswith("run-1-") and file not in live] == []


# What the log says of the files


def test_log_says_of_every_file_how_long_it_is_and_how_many_values_of_each_column_are_null(anywhere):
    wide = pa.schema([*THINGS, *(field(f"c{number:02}", pa.int32(), "one of many") for number in range(40))])
    blank = {f"c{number:02}": [None, 1, None] for number in range(40)}
    publish(anywhere, {"a": [1, 2, 3]}, schema=wide, text=["x", None, None], tags=[None, [], [("k", None)]], **blank)
    publish(anywhere, {"b": []}, run="run-2", schema=wide, **{name: [] for name in blank})  # a is carried over

    committed = anywhere.read("things", with_facts=True)

    (file,) = live_files(anywhere)
    ((name, facts),) = committed.facts.items()
    assert name.rpartition("/")[2] == file.name
    assert facts.size == file.stat().st_size
    counts = {"slice_id": 0, "n": 0, "text": 2, "tags": 1, "at": 0, **dict.fromkeys(blank, 2)}
    assert facts.nulls == counts


@pytest.mark.parametrize("anywhere", ["disk", "moto apart", KINDS[2]], indirect=True)
def test_file_of_a_writer_that_did_not_tell_has_no_null_counts_and_the_table_is_told_to_keep_them(anywhere):
    """As tables were before: Delta then keeps counts of the first 32 columns only, and a column seems to be missing."""
    store = anywhere.store
    DeltaTable.create(
        store.at("things"),
        schema=Schema.from_arrow(THINGS),
        partition_by=["snapshot_date"],
        storage_options=store.delta_options(),
    )
    publish(anywhere, {"a": [1]})
    (file,) = anywhere.files("things", DATE)
    entry = max(name for name in store.listed(store.at("things", "_delta_log")) if name.endswith(".json"))
    told = store.read(entry).decode()
    untold = re.sub(r',\\"nullCount\\":\{.*?\}|, \\"nullCount\\": \{.*?\}', "", told)
    assert "nullCount" in told
    assert "nullCount" not in untold
    overwrite(store, entry, untold.encode())

    tables = Tables(store)
    assert tables.read("things", with_facts=True).facts[file].nulls == {}
    publish(tables, {"b": [2]}, date=NEXT_DATE, run="run-2")
    facts = tables.read("things", with_facts=True).facts
    assert sorted(len(known.nulls) for known in facts.values()) == [0, 5]


def test_log_is_summed_up_every_ten_commits(anywhere):
    """Without, who opens the table reads every night of its life."""
    for number in range(1, 22):
        publish(anywhere, {"a": [number]}, number=number)
    logs = place(anywhere) / "things/_delta_log"
    assert [int(file.name[:20]) for file in sorted(logs.glob("*.checkpoint.parquet"))] == [10, 20]
    assert json.loads((logs / "_last_checkpoint").read_text())["version"] == 20
    assert numbers(Tables(anywhere.store)) == {(DATE, "a"): [21]}


# Looking


def test_counts_are_per_value_and_of_one_date(anywhere):
    publish(anywhere, {"a": [1, 2], "b": [3]})
    publish(anywhere, {"a": [4]}, date=NEXT_DATE, run="run-2")
    assert anywhere.count("things", Replacement(DATE, "slice_id", ("b", "a", "c"))) == {"b": 1, "a": 2, "c": 0}
    assert anywhere.count("things", Replacement(NEXT_DATE, "slice_id", ("a", "b"))) == {"a": 1, "b": 0}
    assert anywhere.count("nothing", Replacement(DATE, "slice_id", ("a",))) == {"a": 0}


def test_rows_of_a_date_are_found_by_column(anywhere):
    publish(anywhere, {"a": [1, 2]})
    assert anywhere.rows("things", DATE, ["n", "slice_id"]) == [{"n": 1, "slice_id": "a"}, {"n": 2, "slice_id": "a"}]
    assert anywhere.rows("things", NEXT_DATE, ["n"]) == []
    assert anywhere.rows("nothing", DATE, ["n"]) == []


def test_names_are_those_of_tables_only(anywhere):
    assert anywhere.names() == []
    publish(anywhere, {"a": [1]}, table="b_things")
    publish(anywhere, {"a": [1]}, table="a_things")
    for other in (["something", "else"], [".packs", "a_things", "pack"], ["warehouse.duckdb"]):
        overwrite(anywhere.store, anywhere.store.at(*other), b"")
    assert anywhere.names() == ["a_things", "b_things"]


def test_dates_are_dates_and_files_are_absolute(anywhere):
    publish(anywhere, {"a": [1]})
    files = anywhere.read("things").files
    assert list(files) == [DATE]
    assert isinstance(next(iter(files)), dt.date)
    assert all(file.startswith(anywhere.store.at("things", f"snapshot_date={DATE}/")) for file in files[DATE])
