"""What a warehouse may rely on, whatever store it is in: one suite for a disk and for servers of S3."""

import datetime as dt
import io
import threading
from contextlib import suppress

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.stores import KINDS, as_another_process, store_of

from etl.errors import LockedError, StoppedError
from etl.storage import objects
from etl.storage.store import ConditionError, Version

NO_WAIT = dt.timedelta(0)


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    store = store_of(request.param, tmp_path / "store")
    store.check_writable()
    return store


def keep(store, name, content=b"content"):
    """Write a file as the job does."""
    draft = store.draft(name)
    draft.write_bytes(content)
    store.keep(draft, name)


def swap(store, name, content, **made_of):
    """Replace a file as the job does."""
    draft = store.draft(f"{name}.new")
    draft.write_bytes(content)
    store.swap(draft, name, made_of)


def test_what_was_kept_is_there_as_it_was_written(store):
    name = store.at("things", "snapshot_date=2026-11-20", "a b=c.parquet")
    assert (store.exists(name), store.read(name)) == (False, None)

    keep(store, name, b"\0rows")

    assert (store.exists(name), store.read(name)) == (True, b"\0rows")
    assert name.startswith(f"{store.uri}/things/")


@pytest.mark.parametrize("others", [0, 20])
def test_sizes_are_those_of_the_files_and_none_for_one_that_is_missing(store, others):
    names = [store.at("things", f"{n}") for n in range(others)]
    for name in names:
        keep(store, name)
    keep(store, store.at("things", "one"), b"12345")
    asked = [*names, store.at("things", "one"), store.at("things", "none"), store.at("nowhere", "none")]
    assert dict(store.sizes(asked)) == {**dict.fromkeys(names, 7), asked[-3]: 5, asked[-2]: None, asked[-1]: None}


def test_what_is_below_a_folder_is_listed_with_its_size(store):
    assert store.listed(store.at(".packs")) == {}
    names = [store.at(".packs", *rest) for rest in (["a"], ["things", "b=1", "c"], ["things", "d.parquet"])]
    for size, name in enumerate(names):
        keep(store, name, b"x" * size)
    keep(store, store.at(".packs-not"))
    assert store.listed(store.at(".packs")) == dict(zip(names, range(3), strict=True))
    assert store.listed(store.at(".packs", "things")) == dict(zip(names[1:], (1, 2), strict=True))


def test_size_is_that_of_the_file_that_has_taken_the_place_of_another(store):
    """DuckDB is told it, and looks for the end of a Parquet file there."""
    name = store.at(".packs", "one")
    for content in (b"torn", b"longer and whole"):
        swap(store, name, content)
        connection = duckdb.connect()
        store.connect(connection)
        assert connection.execute(f"select size from read_blob('{name}')").fetchall() == [(len(content),)]


def test_tables_are_the_folders_that_have_a_log(store):
    assert store.folders_with("_delta_log") == []
    keep(store, store.at("b", "_delta_log", "0.json"))
    keep(store, store.at("a", "_delta_log", "0.json"))
    keep(store, store.at("c", "0.parquet"))
    keep(store, store.at("d", "deeper", "_delta_log", "0.json"))
    assert store.folders_with("_delta_log") == ["a", "b"]
    keep(store, store.at("c", "_delta_log", "0.json"))
    assert store.folders_with("_delta_log") == ["a", "b", "c"]


def test_catalog_is_replaced_as_a_whole_and_read_from_a_file(store):
    name = store.at("warehouse.duckdb")
    for content in (b"first", b"second, and longer"):
        swap(store, name, content, things=len(content))
        assert store.read(name) == content
        assert store.fetch(name).read_bytes() == content


def test_removed_files_are_gone_and_one_that_was_not_there_is_no_mistake(store):
    names = [store.at("x", one) for one in ("a", "b", "c")]
    for name in names[:2]:
        keep(store, name)
    store.remove(names[0])
    store.discard(names)
    assert [store.exists(name) for name in names] == [False] * 3
    store.discard(names)
    keep(store, store.at("x", "d"))
    store.remove(store.at("x", "never"))


def test_file_is_sent_only_in_the_place_of_the_version_that_was_seen(store, tmp_path):
    """Else two machines would overwrite each other's copies of a ledger."""
    name, file, back = store.at("one.sqlite"), tmp_path / "file", tmp_path / "back"
    file.write_bytes(b"first")
    first = store.send(file, name, None)
    assert store.versions()["one.sqlite"] == Version(first, 5)

    file.write_bytes(b"second")
    with pytest.raises(ConditionError):
        store.send(file, name, None)
    second = store.send(file, name, first)
    file.write_bytes(b"third")
    with pytest.raises(ConditionError):
        store.send(file, name, first)
    with pytest.raises(ConditionError):
        store.send(file, store.at("none.sqlite"), first)

    assert store.receive(name, back) == second == store.versions()["one.sqlite"].tag
    assert (back.read_bytes(), file.read_bytes()) == (b"second", b"third")
    assert "none.sqlite" not in store.versions()
    file.write_bytes(b"")
    store.send(file, name, second)
    assert store.versions()["one.sqlite"].size_bytes == 0


def test_of_many_that_send_at_once_one_lands(store, tmp_path):
    name, file = store.at("one.sqlite"), tmp_path / "file"
    file.write_bytes(b"0")
    first = store.send(file, name, None)
    landed, together = [], threading.Barrier(4)

    def send(number):
        content = tmp_path / str(number)
        content.write_bytes(str(number).encode() * number)
        together.wait()
        with suppress(ConditionError):
            landed.append((store.send(content, name, first), number))

    threads = [threading.Thread(target=send, args=[number]) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    ((tag, number),) = landed
    assert store.read(name) == str(number).encode() * number
    assert store.versions()["one.sqlite"] == Version(tag, number)


def test_versions_are_those_of_files_directly_in_the_store(store, tmp_path):
    assert store.versions() == {} or store.local
    keep(store, store.at("deeper", "one.sqlite"))
    assert "one.sqlite" not in store.versions()
    assert "deeper" not in store.versions()
    with pytest.raises(FileNotFoundError):
        store.receive(store.at("none"), tmp_path / "back")


@pytest.mark.parametrize("whole_bytes", [1, 100, objects._WHOLE_BYTES])
def test_rows_are_read_by_arrow_and_by_duckdb(store, whole_bytes, monkeypatch):
    """Of a large object, only the bytes that are asked for are read."""
    monkeypatch.setattr(objects, "_SMALL_BYTES", 0)
    monkeypatch.setattr(objects, "_WHOLE_BYTES", whole_bytes)
    rows = pa.table({"n": list(range(5000)), "text": [f"text {n}" for n in range(5000)]})
    name, bytes_ = store.at("things", "snapshot_date=2026-11-20", "f.parquet"), io.BytesIO()
    pq.write_table(rows, bytes_, row_group_size=1000)
    keep(store, name, bytes_.getvalue())

    with pq.ParquetFile(store.opened(name), pre_buffer=False) as file:
        assert file.read().to_pylist() == rows.to_pylist()
    with duckdb.connect() as connection:
        store.connect(connection)
        read = f"from read_parquet(['{name}'], hive_partitioning = true)"
        assert connection.sql(f"select n, text {read}").to_arrow_table().to_pylist() == rows.to_pylist()
        assert connection.execute(f"select count(*), any_value(snapshot_date) {read} where n > 4990").fetchall() == [
            (9, dt.date(2026, 11, 20))
        ]


def test_usable_store_passes_the_probe_which_leaves_nothing(store):
    store.check_writable()
    store.check_writable()
    assert store.folders_with("") == [] or store.local


def test_one_holds_the_lock_and_the_next_has_it_when_that_one_has_ended(store):
    lock = store.at(".lock")
    with store.locked(lock, NO_WAIT, lambda: False) as taken:
        assert not taken.has_replaced
        store.still_locked()
        with pytest.raises(LockedError, match=r"\.lock: another run holds the lock \(process \d+ on "):
            as_another_process(store).locked(lock, NO_WAIT, lambda: False).__enter__()
        with pytest.raises(StoppedError, match="was stopped; run again"):
            as_another_process(store).locked(lock, dt.timedelta(hours=1), lambda: True).__enter__()
    with as_another_process(store).locked(lock, NO_WAIT, lambda: False) as taken:
        assert not taken.has_replaced


def test_lock_that_nobody_has_held_since_is_untouched_in_a_bucket(store):
    lock, found = store.at(".lock"), []
    for holder in (store, store, as_another_process(store), store, store):
        with holder.locked(lock, NO_WAIT, lambda: False) as taken:
            found.append(taken.is_untouched)
    assert found == ([False] * 5 if store.local else [False, True, False, False, True])


def test_holder_of_the_lock_hears_of_files_that_are_gone(store):
    names = [store.at("a", "_delta_log", "0.json"), store.at("a", "1.parquet"), store.at("a", "2.parquet")]
    for name in names:
        keep(store, name)
    assert dict(store.sizes(names)) == dict.fromkeys(names, 7)
    as_another_process(store).remove(names[1])
    with store.locked(store.at(".lock"), NO_WAIT, lambda: False):
        assert store.folders_with("_delta_log") == ["a"]
        if store.mirror:
            store.mirror.look("a/_delta_log")
        assert dict(store.sizes(names)) == {names[0]: 7, names[1]: None, names[2]: 7}


def test_of_many_that_want_the_lock_one_has_it_at_a_time(store):
    lock, inside, most, done = store.at(".lock"), [], [], []
    want = threading.Barrier(4)

    def work(number):
        mine = as_another_process(store)
        want.wait()
        for _ in range(3):
            with mine.locked(lock, dt.timedelta(minutes=1), lambda: False):
                inside.append(number)
                most.append(len(inside))
                mine.still_locked()
                inside.remove(number)
        done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sorted(done), set(most)) == ([0, 1, 2, 3], {1})


def test_note_stays_until_it_is_dropped_whoever_has_the_lock(store):
    lock = store.at(".lock")
    assert store.note(lock) is None
    with store.locked(lock, NO_WAIT, lambda: False):
        store.set_note(lock, b"versions")
        store.still_locked(is_new=True)  # which writes the lock anew
        assert (store.note(lock), as_another_process(store).note(lock)) == (b"versions", b"versions")
    other = as_another_process(store)
    assert other.note(lock) == b"versions"
    with other.locked(lock, NO_WAIT, lambda: False):
        assert other.note(lock) == b"versions"
        other.set_note(lock, None)
    assert store.note(lock) is None


# What only object stores promise: see tests/storage/test_objects.py


@pytest.mark.parametrize("kind", KINDS[1:])
def test_object_is_made_once_and_replaced_only_by_whoever_has_read_it(kind, tmp_path):
    store = store_of(kind, tmp_path)
    name = store.at("one")
    e_tag = store.put_new(name, b"1")
    with pytest.raises(ConditionError):
        store.put_new(name, b"2")
    newer = store.replace(name, b"3", e_tag)
    with pytest.raises(ConditionError):
        store.replace(name, b"4", e_tag)
    assert store.get(name) == (newer, b"3")
