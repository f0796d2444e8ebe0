"""Packs: what a view reads instead of the small files of past months says the same, and nobody needs it."""

import datetime as dt
import errno
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.damage import flipped
from support.job import reading
from support.shapes import DATE
from support.stores import KINDS, address_of, overwrite, server_of, store_at, store_of
from support.warehouse import THINGS, build, publish, publish_slices, record_syncs

from etl.errors import StorageError
from etl.load.catalog import packs as module
from etl.load.catalog.packs import Packs, is_as_made, list_packs, packs_of, remove_old_packs
from etl.load.delta.tables import Tables
from etl.model import CATALOG_NAME
from etl.transform.schema import field

FIRST = dt.date(2026, 9, 1)
NEXT_MONTH = dt.date(2026, 10, 1)
WIDE = pa.schema([*THINGS, field("weight", pa.float64(), "came later")])
ALL = 'from (select * replace ("at"::varchar as "at") from things_history) order by all'
AT_ONCE = dt.timedelta(0)


def day(number):
    return FIRST + dt.timedelta(days=number)


def fill_month(tables):
    """Nine nights of a month, two slices in each, one night with an empty one; and the first night of the next."""
    for number in range(9):
        publish(
            tables, {"a": [number], "b": [] if number == 4 else [100, number]}, date=day(number), run=f"night-{number}"
        )
    publish(tables, {"a": [9]}, date=NEXT_MONTH, run="night-9")
    return tables


@pytest.fixture
def month(anywhere):
    """In each store."""
    return fill_month(anywhere)


@pytest.fixture
def month_on_disk(tables):
    """Where bytes, names and syncs of a disk matter."""
    return fill_month(tables)


def answer(tables, statement=ALL):
    with reading(tables.store) as connection:
        return connection.execute(statement).fetchall()


def view_of(tables, name="things_history"):
    return answer(tables, f"select sql from duckdb_views() where view_name = '{name}'")[0][0]


def there(tables):
    """Return all that lies where packs do."""
    return sorted(list_packs(tables.store))


def packs(tables):
    return [file for file in there(tables) if file.endswith(".parquet")]


def rows_in(tables, pack):
    return pq.ParquetFile(pa.BufferReader(tables.store.read(pack)), page_checksum_verification=True).read()


def without_packs(tables, monkeypatch):
    """Return what the history says where every file is read by itself."""
    with monkeypatch.context() as patch:
        patch.setattr(module, "_FEWEST_FILES", 10**9)
        build(tables)
        assert ".packs" not in view_of(tables)
        return answer(tables)


def test_a_view_reads_one_file_of_a_past_month_and_says_the_same(month, monkeypatch):
    expected = without_packs(month, monkeypatch)
    assert len(expected) == 9 + 2 * 8 + 1

    build(month)

    assert answer(month) == expected
    (pack,) = packs(month)
    assert pack.startswith(month.store.at(".packs", "things", "2026-09-"))
    assert f"'{pack}'" in view_of(month)
    assert view_of(month).count(".parquet") == 2, "the pack, and the night of the newest month"
    assert sum(map(len, month.read("things").files.values())) == 10, "Delta has all files as before"


def test_a_night_that_is_published_again_is_in_another_pack_and_the_old_one_stays_for_its_readers(month):
    build(month)
    (before,) = packs(month)
    content = month.store.read(before)
    publish(month, {"a": [77]}, date=day(3), run="run-2")

    build(month)

    assert (77,) in answer(month, "select n from things_history")
    assert (3,) in answer(month, "select n from things_history where slice_id = 'b'")
    assert not remove_old_packs(month.store, dt.timedelta(days=2))
    assert month.store.read(before) == content
    assert remove_old_packs(month.store, AT_ONCE) == {"things": 1}
    (after,) = there(month)
    assert after != before
    assert len(answer(month)) == 26


def noted_at(tables, moment):
    """Make all notes about unused packs say that they are from then; return how many there are."""
    notes = [file for file in there(tables) if ".unused-since-" in file]
    for note in notes:
        overwrite(tables.store, note, None)
        overwrite(tables.store, f"{note.rpartition('-')[0]}-{moment:%Y%m%dT%H%M%SZ}", b"")
    return len(notes)


def test_a_pack_goes_when_grace_has_passed_since_the_last_catalog_that_names_it(month):
    """However long ago it was made, and however many catalogs were built since."""
    build(month)
    build(month)
    assert noted_at(month, DATE) == 0
    publish(month, {"a": [77]}, date=day(3), run="run-2")
    build(month)
    build(month)
    hour = dt.timedelta(hours=1)

    assert noted_at(month, dt.datetime.now(dt.UTC) - hour / 2) == 1
    assert not remove_old_packs(month.store, hour)
    assert noted_at(month, dt.datetime.now(dt.UTC) - hour * 2) == 1
    assert remove_old_packs(month.store, hour) == {"things": 1}
    assert len(there(month)) == 1


def test_a_pack_that_is_named_again_is_used_again(month, monkeypatch):
    """What was noted before says nothing about the readers of this catalog."""
    build(month)
    without_packs(month, monkeypatch)
    assert noted_at(month, dt.datetime.now(dt.UTC) - dt.timedelta(days=9)) == 1

    build(month)

    assert len(there(month)) == 1
    assert not remove_old_packs(month.store, AT_ONCE)
    without_packs(month, monkeypatch)
    assert not remove_old_packs(month.store, dt.timedelta(days=1))
    assert len(packs(month)) == 1


def test_a_catalog_that_did_not_get_its_place_notes_nothing(month, monkeypatch):
    """Readers still open the one before, which names the pack."""
    build(month)
    publish(month, {"a": [77]}, date=day(3), run="run-2")

    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "chmod", refuse)
        with pytest.raises(StorageError, match="Input/output error"):
            build(month)

    assert not remove_old_packs(month.store, AT_ONCE)
    assert len(answer(month)) == 26


@pytest.mark.parametrize("cut", [None, -40])
def test_fault_39_a_pack_that_is_gone_or_torn_is_made_anew(month, cut):
    build(month)
    expected = answer(month)
    (pack,) = packs(month)
    content = month.store.read(pack)
    overwrite(month.store, pack, cut and content[:cut])
    month = Tables(month.store)

    build(month)

    assert answer(month) == expected
    assert there(month) == [pack]
    assert month.store.read(pack) == content


def test_fault_69_a_pack_that_is_not_what_was_made_is_found_and_made_again(month):
    """On a disk, each catalog reads all bytes of its packs. What a bucket has accepted stays; `verify` reads it."""
    build(month)
    expected = answer(month)
    (pack,) = packs(month)
    content = month.store.read(pack)
    assert is_as_made(month.store, pack)
    overwrite(month.store, pack, flipped(content, 200))
    assert not is_as_made(month.store, pack)
    if not month.store.local:
        overwrite(month.store, pack, None)  # as `verify` advises

    build(month)

    assert answer(month) == expected
    assert there(month) == [pack]
    assert is_as_made(month.store, pack)


def test_fault_39_a_damaged_night_leaves_its_month_without_a_pack_and_the_others_their_answers(month, caplog):
    (file,) = month.read("things").files[day(2)]
    overwrite(month.store, file, flipped(month.store.read(file), 40))

    build(month)

    assert file in caplog.text
    assert packs(month) == []
    assert (5,) in answer(month, f"select n from things_history where snapshot_date = '{day(5)}'")


def test_two_jobs_that_make_a_pack_at_once_make_the_same(month):
    """The lock was taken from one of them, which only stood still: each has looked before the other made anything."""
    table = month.read("things", with_facts=True)
    first, second = Packs(month.store), Packs(month.store)

    made = first.of(table), second.of(table)

    assert made[0] == made[1]
    (pack,) = packs(month)
    assert rows_in(month, pack).num_rows == 25
    assert first.of(table) == made[0], "it is not made once more"


def test_whatever_else_lies_there_is_removed_in_the_end(month):
    """For instance what a killed attempt has left, or a pack of a former version."""
    build(month)
    (pack,) = packs(month)
    stem = pack.rpartition("/")[0]
    for name in ("half.new", "2026-09-0123456789abcdef.parquet", "2026-09-0123456789abcdef.sha256"):
        overwrite(month.store, f"{stem}/{name}", b"half")
    build(month)
    assert remove_old_packs(month.store, AT_ONCE) == {"things": 3}
    assert there(month) == [pack]


@pytest.mark.parametrize("anywhere", ["moto"], indirect=True)
def test_packs_that_are_there_cost_one_request_however_many_they_are(month):
    """And none of them is read: there are dozens after some years."""
    build(month)
    table, server = month.read("things", with_facts=True), server_of(month.store)
    server.requests.clear()

    assert Packs(store_at(*address_of(month.store))).of(table)

    assert server.requests == [("GET", "")], "a listing"


def test_fault_32_what_a_killed_attempt_left_is_written_over(month_on_disk):
    build(month_on_disk)
    (pack,) = packs(month_on_disk)
    left = Path(f"{pack.rsplit('-', 2)[0]}.new")
    Path(pack).rename(left).write_bytes(b"half")
    build(month_on_disk)
    assert packs(month_on_disk) == [pack]
    assert rows_in(month_on_disk, pack).num_rows == 25
    remove_old_packs(month_on_disk.store, AT_ONCE)
    assert there(month_on_disk) == [pack]


def test_fault_36_a_pack_is_on_the_disk_before_it_has_its_name_and_then_the_name(month_on_disk, monkeypatch):
    events = record_syncs(monkeypatch)
    build(month_on_disk)
    (pack,) = packs(month_on_disk)
    draft = f"{Path(pack).name.rsplit('-', 2)[0]}.new"
    assert events[:3] == [("sync", draft), ("rename", draft), ("sync", "things")]


def test_fault_37_disk_that_refuses_a_pack_leaves_the_old_catalog(month_on_disk, monkeypatch):
    month = month_on_disk
    with monkeypatch.context() as patch:
        patch.setattr(module, "_FEWEST_FILES", 10**9)
        content = build(month).read_bytes()
    refused = []

    def refuse(descriptor):
        refused.append(descriptor)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError, match=r"2026-09-\w+: No space left"):
            build(month)
    assert refused
    assert (month.store.path / CATALOG_NAME).read_bytes() == content
    assert there(month) == []


def test_few_files_many_rows_and_the_newest_month_are_left_alone(month, monkeypatch):
    for name, value, packed in (
        ("_FEWEST_FILES", 1, ["2026-09"]), ("_FEWEST_FILES", 9, ["2026-09"]), ("_FEWEST_FILES", 10, []),
        ("_MOST_ROWS", 25, ["2026-09"]), ("_MOST_ROWS", 24, []),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            found = packs_of(month.read("things", with_facts=True))
            assert [pack.stem.rpartition("/")[2][:7] for pack in found] == packed


def test_columns_that_came_later_are_null_in_a_pack_of_before(anywhere, monkeypatch):
    tables = anywhere
    for number in range(8):
        wide = {"schema": WIDE, "weight": [0.5]} if number > 4 else {}
        publish(tables, {"a": [number]}, date=day(number), run=f"night-{number}", **wide)
    for number in range(8):
        publish(tables, {"a": [number]}, date=day(30 + number), run=f"later-{number}", schema=WIDE, weight=[None])
    publish(tables, {"a": [99]}, date=day(70), run="last")
    expected = without_packs(tables, monkeypatch)

    build(tables)

    assert answer(tables) == expected
    assert len(packs(tables)) == 2
    assert answer(tables, "select count(weight) from things_history") == [(3,)]


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=8)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 65),
            st.dictionaries(st.sampled_from("ab"), st.lists(st.integers(0, 9), max_size=3), min_size=1),
            st.booleans(),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_whatever_was_published_in_whichever_order_packs_say_what_the_tables_do(tmp_path_factory, kind, nights):
    """Months are packed from two files on; every third catalog is followed by a vacuum."""
    tables = Tables(store_of(kind, tmp_path_factory.mktemp("nights")))
    expected = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FEWEST_FILES", 2)
        for place, (number, slices, looks) in enumerate(nights):
            publish(tables, slices, date=day(number), run=f"run-{place}")
            expected |= {(day(number), name): sorted(found) for name, found in slices.items()}
            if looks:
                build(tables)
                remove_old_packs(tables.store, AT_ONCE)
                statement = "select snapshot_date, slice_id, list_sort(list(n)) from things_history group by all"
                rows = {(date, name): found for date, name, found in answer(tables, statement)}
                assert rows == {place: found for place, found in expected.items() if found}


def test_current_rows_come_from_their_own_night(month):
    """A pack is for what looks at many nights."""
    publish_slices(month, ["a"], date=DATE)
    publish(month, {"a": [1]}, date=DATE, run="today")
    build(month)
    assert ".packs" not in view_of(month, "things")
    assert answer(month, "select n from things") == [(1,)]
