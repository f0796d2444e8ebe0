"""Ledgers that are not what they should be, and disks that refuse.

Every file here is a real SQLite file; what is damaged is damaged on the disk.
"""

import json
import os
import random
import re
import sqlite3
from contextlib import closing

import pyarrow as pa
import pytest
from support.damage import change_ledger
from support.ledgers import A, B, facts_of, store
from support.programs import run_code
from support.shapes import DATE, dataset, operation, page

from etl.errors import LedgerError, StorageError, refused_by_system
from etl.ledger import ledger as module
from etl.ledger.database import sqlite_errors
from etl.ledger.directory import ledger_paths, new_run_id
from etl.ledger.format import FORMAT
from etl.ledger.ledger import Ledger
from etl.model import WHOLE, Shard, Slice

# Files that are not what they should be


def test_ledger_is_found_under_its_name_only_when_it_is_whole(path, monkeypatch):
    """A crash while it is made must not leave a ledger that the next run takes for one."""
    monkeypatch.setattr(module, "SCHEMA", "create table run (nothing); garbage;")
    with pytest.raises(LedgerError):
        Ledger.create(path, "run", DATE, "request")
    assert ledger_paths(path.parent.parent) == []
    monkeypatch.undo()
    Ledger.create(path, "run", DATE, "request").close()
    assert ledger_paths(path.parent.parent) == [path]


def test_ledgers_are_listed_oldest_first(tmp_path):
    names = ["20261121T010000Z-aaaaaa", "20261120T230000Z-ffffff", "20261120T030000Z-cccccc"]
    for name in names:
        Ledger.create(tmp_path / "runs" / f"{name}.sqlite", name, DATE, "request").close()
    assert [found.stem for found in ledger_paths(tmp_path)] == sorted(names)
    assert ledger_paths(tmp_path / "nowhere") == []


def test_runs_that_begin_in_the_same_second_are_listed_in_their_order(tmp_path):
    names = []
    for _ in range(20):
        names.append(new_run_id())
        Ledger.create(tmp_path / "runs" / f"{names[-1]}.sqlite", names[-1], DATE, "request").close()
    assert len({name.partition("-")[0] for name in names}) < len(names), "some begin in one second"
    assert [found.stem for found in ledger_paths(tmp_path)] == names


def test_file_that_is_missing_is_not_made(path):
    path.parent.mkdir(parents=True)
    with pytest.raises(StorageError, match="unable to open"):
        Ledger.open(path)
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0" + b"\0" * 5000, os.urandom(8192)])
def test_fault_38_file_that_is_no_ledger_is_refused(path, content):
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"--fresh"):
        Ledger.open(path)


def test_fault_38_database_of_another_program_is_refused(path):
    path.parent.mkdir(parents=True)
    change_ledger(path, "create table run (a)")
    with pytest.raises(LedgerError, match="is not a ledger of nimble-etl"):
        Ledger.open(path)


FORMER = """
alter table run drop column shard;
alter table publication drop column sequence;
alter table publication drop column is_whole;
alter table slice drop column table_rows;
alter table publication add column is_of_facts integer not null default 0;
pragma user_version = 2
"""


@pytest.mark.parametrize(
    ("facts_at", "left"),
    [(None, {"things": {A.slice_id}}), ("2026-11-20T03:00:01+00:00", {})],
    ids=["without its facts", "with its facts"],
)
@pytest.mark.parametrize("version", [1, 2])
def test_ledger_of_a_former_format_goes_on_and_knows_what_is_whole(ledger, path, version, facts_at, left):
    """The first format published facts about a run under the name of a dataset: etl."""
    slices = json.dumps([A.slice_id])
    ledger.close()
    with closing(sqlite3.connect(path)) as former:
        former.executescript(FORMER)
        facts = ("etl", '["1"]', facts_at) if version == 1 else ("", '["1"]', facts_at)
        former.executemany(
            "insert into publication (dataset, slices, published_at) values (?, ?, ?)",
            [("things", slices, "2026-11-20T03:00:00+00:00"), facts],
        )
        former.execute("update slice set publication = 1 where slice_id = ?", (A.slice_id,))
        former.execute("update publication set is_of_facts = 1 where dataset = ''")
        if version == 1:
            former.execute("alter table publication drop column is_of_facts")
        former.execute(f"pragma user_version = {version}")
        former.commit()

    for _ in range(2):
        with Ledger.open(path) as again:
            assert again.open_publications() == left
            facts_of_a = facts_of(again, A)
            assert facts_of_a.publication == 0, "published by a former version"
            assert facts_of_a.table_rows == {}


def test_ledger_from_before_there_were_shards_is_of_the_whole_night(ledger, path):
    store(ledger, A, ["t1", None])
    ledger.close()
    change_ledger(path, "alter table run drop column shard")
    change_ledger(path, "pragma user_version = 3")
    with Ledger.open(path) as again:
        assert again.run().shard == WHOLE
        assert facts_of(again, A).is_wanted
        assert len(list(again.pages(A))) == 2


def test_ledger_of_a_shard_wants_only_the_slices_that_the_shard_owns(tmp_path):
    for number in (1, 2):
        path = tmp_path / f"{number}.sqlite"
        with Ledger.create(path, "run", DATE, "request", shard=Shard(number, 2)) as ledger:
            ledger.add_dataset(dataset(), operation(), published=True)
            ledger.add_slices((Slice("things", "1", "r", {"studioId": str(one)}), None) for one in range(20))
        with Ledger.open(path) as again:
            assert again.run().shard == Shard(number, 2)
            planned = {facts.slice.slice_id for facts in again.slices()}
            wanted = {facts.slice.slice_id for facts in again.slices() if facts.is_wanted}
            assert wanted == {one for one in planned if (one[0] in "01234567") == (number == 1)}
            assert 0 < len(wanted) < len(planned)


def test_digest_of_a_slice_changes_with_its_pages_and_their_order(ledger):
    assert facts_of(ledger, A).pages_sha256 is None
    store(ledger, A, ["t1", None])
    first = facts_of(ledger, A).pages_sha256
    store(ledger, B, ["t1", None])
    assert facts_of(ledger, B).pages_sha256 == first, "the same bodies"
    ledger.database.write("update page set body_sha256 = 'ff' || substr(body_sha256, 3) where number = 2")
    assert facts_of(ledger, A).pages_sha256 != first


def test_fault_40_ledger_of_a_newer_version_is_refused_and_both_versions_are_named(ledger, path):
    ledger.database._connection.execute(f"pragma user_version = {FORMAT + 1}")
    ledger.close()
    with pytest.raises(LedgerError, match=rf"has format {FORMAT + 1}; this version reads up to {FORMAT}"):
        Ledger.open(path)


def test_fault_38_flipped_bit_in_a_stored_body_is_refused_and_the_page_is_named(ledger, path):
    """First where the compression notices, then where only the hash does."""
    store(ledger, A, ["t1", None])
    with closing(sqlite3.connect(path)) as reader:
        (body,) = reader.execute("select body from page where number = 2").fetchone()
    for changed in (body[:-5] + bytes([body[-5] ^ 1]) + body[-4:], body[: len(body) // 2], b""):
        change_ledger(path, "update page set body = ? where number = 2", (changed,))
        pages = ledger.pages(A)
        assert next(pages).number == 1
        with pytest.raises(LedgerError, match=r"things\[studioId='a'\], page 2: .* is not what was received"):
            next(pages)


@pytest.mark.parametrize("size", [-1, 0, 2, 2**62])
def test_fault_38_changed_body_or_size_that_decompresses_is_refused_too(ledger, path, size):
    store(ledger, A, [None])
    body = pa.compress(b"{}", "zstd", asbytes=True)
    change_ledger(path, "update page set body = ?, size_bytes = ?", (body, size))
    with pytest.raises(LedgerError, match="not what was received"):
        list(ledger.pages(A))


@pytest.mark.parametrize("last", [None, "t3"], ids=["complete", "walking"])
@pytest.mark.parametrize("lost", [(1,), (2,), (3,), (1, 2, 3)])
def test_fault_38_lost_page_is_noticed_be_it_the_first_or_the_last(ledger, path, lost, last):
    """A listing with a hole would be published as if it were complete, or gone on with as if nothing were missing."""
    store(ledger, A, ["t1", "t2", last])
    for number in lost:
        change_ledger(path, "delete from page where number = ?", (number,))
    with pytest.raises(LedgerError, match=f"page {lost[0]} is missing; run with --fresh"):
        list(ledger.pages(A))
    with pytest.raises(LedgerError, match=f"page {lost[0]} is missing; run with --fresh"):
        ledger.checkpoint(A)


def test_fault_38_complete_slice_without_any_page_is_refused(ledger, path):
    store(ledger, A, [None])
    change_ledger(path, "update slice set attempt = 3 where slice_id = ?", (A.slice_id,))
    with pytest.raises(LedgerError, match="page 1 is missing"):
        list(ledger.pages(A))


def read_everything(path):
    with Ledger.open(path) as ledger:
        return (
            ledger.run(), ledger.datasets(), ledger.slices(), ledger.checkpoint(A), ledger.checkpoint(B),
            list(ledger.pages(A)), list(ledger.pages(B)), [tuple(row) for row in ledger.page_facts()],
        )  # fmt: skip


@pytest.fixture
def whole(ledger, path):
    """Return the bytes of a closed ledger with two walked slices, and what it says."""
    store(ledger, A, ["t1", "t2", None])
    store(ledger, B, ["u1"])
    ledger.close()
    return path.read_bytes(), read_everything(path)


def damaged(path, content):
    for leftover in path.parent.glob(f"{path.name}*"):
        leftover.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(4))
def test_fault_38_flipped_bit_anywhere_is_harmless_or_refused_and_no_body_changes(whole, path, seed):
    """SQLite has no checksums of its own: whatever a flip does to values, it is our error, never a crash of ours."""
    content, said = whole
    chance = random.Random(seed)
    refused = 0
    for _ in range(120):
        changed = bytearray(content)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        damaged(path, changed)
        try:
            found = read_everything(path)
        except LedgerError:
            refused += 1
        else:
            assert [stored.body for stored in found[5] + found[6]] == [stored.body for stored in said[5] + said[6]]
    assert refused  # the flips did hit something


def test_fault_38_truncated_ledger_is_refused(whole, path):
    content, said = whole
    for length in range(0, len(content), 1500):
        damaged(path, content[:length])
        with pytest.raises(LedgerError, match=re.escape(str(path))):
            read_everything(path)
    damaged(path, content)
    assert read_everything(path) == said


# Disks that say no


def test_fault_37_full_disk_is_a_storage_error_and_the_checkpoint_stays(ledger):
    """SQLite itself refuses to grow the file, as it does when the disk is full."""
    store(ledger, A, ["t1"])
    pages = ledger.database._connection.execute("pragma page_count").fetchone()[0]
    ledger.database._connection.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(StorageError, match=r"full .*MB free.*make room"):
        ledger.store_page(
            A, page(os.urandom(200_000).hex().encode().join([b'{"things": [], "x": "', b'"}']), 2, token="t2")
        )
    assert ledger.checkpoint(A).starting_token == "t1"
    ledger.database._connection.execute("pragma max_page_count = 100000")
    store(ledger, A, ["t2"])
    assert len(list(ledger.pages(A))) == 2


def test_fault_37_write_that_the_kernel_refuses_is_a_storage_error(tmp_path):
    """A process of its own, for the limit cannot be taken back: EFBIG, which every write path meets like ENOSPC."""
    code = """
        import os, resource, signal, sys
        from pathlib import Path
        from support.shapes import DATE, dataset, operation, page, part
        from etl.errors import StorageError
        from etl.ledger.ledger import Ledger

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        path = Path(sys.argv[1]) / "runs/a.sqlite"
        ledger = Ledger.create(path, "a", DATE, "request")
        ledger.add_dataset(dataset(), operation(), published=True)
        ledger.add_slice(part())
        ledger.store_page(part(), page([], 1, token="t1"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100_000, -1))
        try:
            for number in range(2, 100):
                body = b'{"things": [], "x": "' + os.urandom(20_000).hex().encode() + b'"}'
                ledger.store_page(part(), page(body, number, token=f"t{number}"))
        except StorageError as exc:
            stored = [found.number for found in ledger.pages(part())]
            assert stored == list(range(1, number)), stored
            assert ledger.checkpoint(part()).starting_token == f"t{number - 1}"
            print("refused", str(path) in str(exc))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, -1))
        try:
            Ledger.create(path.with_name("b.sqlite"), "b", DATE, "request")
        except StorageError as exc:
            print("refused", "b.new" in str(exc), path.with_name("b.sqlite").exists())
    """
    done = run_code(code, tmp_path)
    assert done.stdout == "refused True\nrefused True False\n", done.stderr


def test_fault_45_state_directory_that_is_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match=r"runs"):
        Ledger.create(tmp_path / "runs/a.sqlite", "a", DATE, "request")


def test_file_that_may_be_written_and_was_opened_only_to_read_is_no_matter_of_rights(path):
    """SQLite does so if opening it to write fails, whatever the reason, such as a full quota: to run again may help."""
    Ledger.create(path, "run", DATE, "request").close()
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    with closing(connection), pytest.raises(StorageError, match="SQLITE_READONLY") as raised, sqlite_errors(path):
        connection.execute("delete from run")
    assert raised.value.exit_code == 3
    assert refused_by_system(raised.value) is None
