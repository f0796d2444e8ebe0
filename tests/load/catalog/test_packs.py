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
from support.damage import flip_byte
from support.job import connected
from support.shapes import DATE
from support.warehouse import THINGS, build, publish, publish_slices, record_syncs

from etl.errors import StorageError
from etl.load.catalog import packs as module
from etl.load.catalog.packs import packs_of, remove_old_packs
from etl.load.delta.tables import Tables
from etl.model import CATALOG_NAME
from etl.storage.disk import Disk
from etl.transform.schema import field

FIRST = dt.date(2026, 9, 1)
NEXT_MONTH = dt.date(2026, 10, 1)
WIDE = pa.schema([*THINGS, field("weight", pa.float64(), "came later")])
ALL = 'from (select * replace ("at"::varchar as "at") from things_history) order by all'


def day(number):
    return FIRST + dt.timedelta(days=number)


@pytest.fixture
def month(tables):
    """Nine nights of a month, two slices in each, one night with an empty one; and the first night of the next."""
    for number in range(9):
        publish(
            tables, {"a": [number], "b": [] if number == 4 else [100, number]}, date=day(number), run=f"night-{number}"
        )
    publish(tables, {"a": [9]}, date=NEXT_MONTH, run="night-9")
    return tables


def answer(tables, statement=ALL):
    with connected(tables.store.path / CATALOG_NAME) as connection:
        return connection.execute(statement).fetchall()


def view_of(tables, name="things_history"):
    return answer(tables, f"select sql from duckdb_views() where view_name = '{name}'")[0][0]


def files(tables):
    return sorted(path for path in (tables.store.path / ".packs").rglob("*.*") if path.suffix != ".sha256")


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
    (pack,) = files(month)
    assert (pack.parent.name, pack.name[:8]) == ("things", "2026-09-")
    assert view_of(month).count(".parquet") == 2, "the pack, and the night of the newest month"
    assert sum(map(len, month.read("things").files.values())) == 10, "Delta has all files as before"


def test_a_night_that_is_published_again_is_in_another_pack_and_the_old_one_stays_for_its_readers(month):
    build(month)
    (before,) = files(month)
    content = before.read_bytes()
    publish(month, {"a": [77]}, date=day(3), run="run-2")

    build(month)

    assert (77,) in answer(month, "select n from things_history")
    assert (3,) in answer(month, "select n from things_history where slice_id = 'b'")
    assert remove_old_packs(month, dt.timedelta(days=2)) == {"things": 0}
    assert before.read_bytes() == content
    assert remove_old_packs(month, dt.timedelta(0)) == {"things": 1}
    (after,) = files(month)
    assert after != before
    assert len(answer(month)) == 26


def test_a_pack_that_yesterdays_catalog_had_is_as_young_as_that_catalog(month):
    build(month)
    (pack,) = files(month)
    os.utime(pack, (0, 0))
    build(month)  # it is in this one as well
    publish(month, {"a": [77]}, date=day(3), run="run-2")
    build(month)
    assert remove_old_packs(month, dt.timedelta(hours=1)) == {"things": 0}
    assert pack.exists()


@pytest.mark.parametrize("harm", [Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:-40])])
def test_fault_39_a_pack_that_is_gone_or_torn_is_made_anew(month, harm):
    build(month)
    expected = answer(month)
    (pack,) = files(month)
    content = pack.read_bytes()
    harm(pack)

    build(month)

    assert answer(month) == expected
    assert files(month) == [pack]
    assert pq.ParquetFile(pack, page_checksum_verification=True).read().equals(pq.read_table(pa.BufferReader(content)))


@pytest.mark.parametrize("harm", ["rows of another month", "no proof"])
def test_fault_69_a_pack_that_is_not_what_was_made_is_made_again(month, harm):
    build(month)
    expected = answer(month)
    (pack,) = files(month)
    if harm == "no proof":
        pack.with_suffix(".sha256").unlink()
    else:
        rows = pq.read_table(pack)
        changed = rows.set_column(rows.schema.get_field_index("n"), "n", pa.array([-1] * len(rows), pa.int32()))
        pq.write_table(changed, pack)

    build(month)

    assert answer(month) == expected
    assert files(month) == [pack]


def test_fault_39_a_damaged_night_leaves_its_month_without_a_pack_and_the_others_their_answers(month, caplog):
    (file,) = month.read("things").files[day(2)]
    flip_byte(file, 40)

    build(month)

    assert file in caplog.text
    assert files(month) == []
    assert (5,) in answer(month, f"select n from things_history where snapshot_date = '{day(5)}'")


def test_fault_32_what_a_killed_attempt_left_is_written_over_or_removed(month):
    build(month)
    (pack,) = files(month)
    pack.rename(pack.with_suffix(".new")).write_bytes(b"half")
    build(month)
    assert files(month) == [pack]
    pack.with_suffix(".new").write_bytes(b"half")
    assert remove_old_packs(month, dt.timedelta(0)) == {"things": 1}
    assert files(month) == [pack]


def test_fault_36_a_pack_is_on_the_disk_before_it_has_its_name_and_then_the_name(month, monkeypatch):
    events = record_syncs(monkeypatch)
    build(month)
    (pack,) = files(month)
    draft = pack.with_suffix(".new").name
    assert events[:4] == [("sync", draft), ("sync", draft), ("rename", draft), ("sync", "things")]


def test_fault_37_disk_that_refuses_a_pack_leaves_the_old_catalog(month, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "_FEWEST_FILES", 10**9)
        content = build(month).read_bytes()
    refused = []

    def refuse(descriptor):
        refused.append(descriptor)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError, match=r"2026-09-\w+\.parquet: No space left"):
            build(month)
    assert refused
    assert (month.store.path / CATALOG_NAME).read_bytes() == content
    assert files(month) == []


def test_few_files_many_rows_and_the_newest_month_are_left_alone(month, monkeypatch):
    for name, value, packed in (
        ("_FEWEST_FILES", 1, ["2026-09"]), ("_FEWEST_FILES", 9, ["2026-09"]), ("_FEWEST_FILES", 10, []),
        ("_MOST_ROWS", 25, ["2026-09"]), ("_MOST_ROWS", 24, []),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            found = packs_of(month.read("things", with_facts=True))
            assert [pack.path.name[:7] for pack in found] == packed


def test_columns_that_came_later_are_null_in_a_pack_of_before(tables, monkeypatch):
    for number in range(8):
        wide = {"schema": WIDE, "weight": [0.5]} if number > 4 else {}
        publish(tables, {"a": [number]}, date=day(number), run=f"night-{number}", **wide)
    for number in range(8):
        publish(tables, {"a": [number]}, date=day(30 + number), run=f"later-{number}", schema=WIDE, weight=[None])
    publish(tables, {"a": [99]}, date=day(70), run="last")
    expected = without_packs(tables, monkeypatch)

    build(tables)

    assert answer(tables) == expected
    assert len(files(tables)) == 2
    assert answer(tables, "select count(weight) from things_history") == [(3,)]


@settings(deadline=None, max_examples=15)
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
def test_whatever_was_published_in_whichever_order_packs_say_what_the_tables_do(tmp_path_factory, nights):
    """Months are packed from two files on; every third catalog is followed by a vacuum."""
    tables = Tables(Disk(tmp_path_factory.mktemp("nights")))
    expected = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FEWEST_FILES", 2)
        for place, (number, slices, looks) in enumerate(nights):
            publish(tables, slices, date=day(number), run=f"run-{place}")
            expected |= {(day(number), name): sorted(found) for name, found in slices.items()}
            if looks:
                build(tables)
                remove_old_packs(tables, dt.timedelta(0))
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
