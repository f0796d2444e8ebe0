"""The ledger: one transaction is a page and the token that follows it, and nothing that was stored is guessed at.

Every file here is a real SQLite file; what is damaged is damaged on the disk.
"""

import hashlib
import json
import os
import random
import re
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pyarrow as pa
import pytest
from support.damage import change_ledger
from support.programs import run_code
from support.shapes import DATE, dataset, operation, page, part

from etl.errors import LedgerError, StorageError, refused_by_system
from etl.ledger import ledger as module
from etl.ledger.database import sqlite_errors
from etl.ledger.directory import ledger_paths, new_run_id
from etl.ledger.format import FORMAT
from etl.ledger.ledger import Ledger
from etl.model import WHOLE, Shard, Slice, SliceState

A, B = part("a"), part("b")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state/runs/20261120T020000Z-abcdef.sqlite"


@pytest.fixture
def ledger(path):
    with Ledger.create(path, path.stem, DATE, "request") as ledger:
        ledger.add_dataset(dataset(), operation(), published=True)
        ledger.add_slice(A)
        ledger.add_slice(B)
        yield ledger


def store(ledger, where, tokens):
    """Store a page of two records for each token that follows it."""
    pages = [
        page([{"thingId": f"{n}-0"}, {"thingId": f"{n}-1"}], n, token=token, retries=n)
        for n, token in enumerate(tokens, start=ledger.checkpoint(where).pages + 1)
    ]
    for stored in pages:
        ledger.store_page(where, stored)
    return pages


def facts_of(ledger, where):
    (facts,) = [facts for facts in ledger.slices() if facts.slice.slice_id == where.slice_id]
    return facts


# What is planned


def test_the_digest_of_a_slice_is_that_of_its_pages_in_their_order(ledger):
    for where, pages in ((A, store(ledger, A, ["t1", "t2", None])), (B, store(ledger, B, ["t1"]))):
        hashes = "".join(hashlib.sha256(page.body).hexdigest() for page in pages)
        assert facts_of(ledger, where).pages_sha256 == hashlib.sha256(hashes.encode()).hexdigest()
    assert [facts.pages_sha256 for facts in ledger.slices("others")] == []
    ledger.restart_slice(B)
    assert facts_of(ledger, B).pages_sha256 is None


def test_slices_are_planned_in_order_and_those_that_are_there_stay(ledger):
    store(ledger, A, ["t1"])
    others = [part(f"s{number}") for number in range(3)]
    ledger.add_slices([(others[0], "token"), (A, "other"), (others[1], None), (others[0], "again")])
    ledger.add_slices([(others[2], None)])
    found = ledger.slices()
    assert [facts.slice.slice_id for facts in found] == [one.slice_id for one in (A, B, *others)]
    assert [facts.starting_token for facts in found] == ["t1", None, "token", None, None]
    assert [facts.pages for facts in found] == [1, 0, 0, 0, 0]


# What is stored


def test_pages_come_back_as_they_were_stored(ledger, path):
    pages = store(ledger, A, ["t1", "t2", None])
    assert list(ledger.pages(A)) == pages
    ledger.close()
    with Ledger.open(path) as again:
        assert list(again.pages(A)) == pages
        assert list(again.pages(B)) == []


def test_any_bytes_of_a_body_survive(ledger):
    body = '{"things": [{"thingId": "\\ud800\\u0000 \U0001f3ac"}]}'.encode()
    ledger.store_page(A, page(body))
    assert next(iter(ledger.pages(A))).body == body


def test_run_datasets_and_slices_come_back_as_they_were_written(ledger, path):
    ledger.set_account("123456789012")
    ledger.close()
    with Ledger.open(path) as again:
        run = again.run()
        assert (run.run_id, run.snapshot_date, run.request) == (path.stem, DATE, "request")
        assert (run.account_id, run.state, run.invocations) == ("123456789012", "open", 0)
        assert run.started_at.tzinfo is not None
        assert again.datasets() == {"things": (dataset(), operation())}
        assert [facts.slice for facts in again.slices()] == [A, B]
        assert again.slices("others") == []


def test_time_adds_up_over_invocations(ledger):
    ledger.add_time(1.5)
    ledger.add_time(2)
    assert (ledger.run().seconds, ledger.run().invocations) == (3.5, 2)


def test_facts_of_a_slice_add_its_pages_up(ledger):
    first, last = store(ledger, A, ["t1", None])
    facts = facts_of(ledger, A)
    assert (facts.pages, facts.records, facts.retries) == (2, 4, 3)
    assert (facts.observed_from, facts.observed_until) == (first.received_at, last.received_at)
    assert (facts_of(ledger, B).pages, facts_of(ledger, B).observed_from) == (0, None)


def test_records_outside_the_walk_are_not_counted(ledger):
    ledger.store_page(A, page([{}, {}, {}, {}], first=1, stop=3))
    assert facts_of(ledger, A).records == 2


# The checkpoint


def test_page_and_the_token_that_follows_it_are_one_transaction(ledger, path):
    """A second connection, as another process would have it, sees both or neither, whenever it looks."""
    reader = sqlite3.connect(path)
    seen = set()
    stopped = threading.Event()

    def look():
        while not stopped.is_set():
            seen.add(
                reader.execute(
                    "select (select count(*) from page), (select starting_token from slice where slice_id = ?)",
                    (A.slice_id,),
                ).fetchone()
            )

    with ThreadPoolExecutor(1) as pool:
        reader.close()
        reader = sqlite3.connect(path, check_same_thread=False)
        looking = pool.submit(look)
        tokens = [f"t{n}" for n in range(1, 60)]
        store(ledger, A, tokens)
        stopped.set()
        looking.result()
    reader.close()
    assert seen <= set(enumerate([None, *tokens]))


def test_failed_transaction_leaves_neither_page_nor_token(ledger, path):
    """The page is written before the token: with the second statement refused, the first must not stay."""
    store(ledger, A, ["t1"])
    ledger.database._connection.execute("create trigger no before update on slice begin select raise(abort, 'no'); end")
    with pytest.raises(LedgerError, match="no"):
        store(ledger, A, ["t2"])
    ledger.database._connection.execute("drop trigger no")
    assert ledger.checkpoint(A).starting_token == "t1"
    with sqlite3.connect(path) as other:
        assert other.execute("select count(*) from page").fetchone() == (1,)
    other.close()
    store(ledger, A, ["t2"])
    assert [stored.number for stored in ledger.pages(A)] == [1, 2]


def test_stored_page_is_visible_to_another_process_at_once(ledger, path):
    """Nothing waits in this process: if it is killed now, the page is there."""
    store(ledger, A, ["t1"])
    code = f"import sqlite3; print(sqlite3.connect({str(path)!r}).execute('select count(*) from page').fetchone()[0])"
    assert run_code(code).stdout == "1\n"


def test_every_transaction_is_synced_before_it_returns(ledger):
    assert ledger.database._connection.execute("pragma journal_mode").fetchone()[0] == "wal"
    assert ledger.database._connection.execute("pragma synchronous").fetchone()[0] == 2  # full


def test_walk_goes_on_where_the_last_page_led(ledger, path):
    assert ledger.checkpoint(A) == module.Checkpoint()
    store(ledger, A, ["t1", "t2"])
    ledger.close()
    with Ledger.open(path) as again:
        assert again.checkpoint(A) == module.Checkpoint("t2", 2, frozenset({"t1", "t2"}))
        assert again.checkpoint(B) == module.Checkpoint()


def test_slice_is_complete_after_a_page_without_a_token_and_only_then(ledger):
    store(ledger, A, ["t1"])
    assert (facts_of(ledger, A).state, facts_of(ledger, A).whole) == (SliceState.WALKING, False)
    store(ledger, A, [None])
    assert (facts_of(ledger, A).state, facts_of(ledger, A).whole) == (SliceState.COMPLETE, True)


def test_slice_that_began_in_the_middle_is_never_whole(ledger):
    late = part("late")
    ledger.add_slice(late, "t7")
    assert ledger.checkpoint(late).starting_token == "t7"
    store(ledger, late, [None])
    assert facts_of(ledger, late).state is SliceState.COMPLETE
    assert not facts_of(ledger, late).whole


def test_planning_a_slice_again_changes_nothing(ledger):
    store(ledger, A, ["t1"])
    ledger.add_slice(A, "another")
    assert ledger.checkpoint(A).starting_token == "t1"
    assert [facts.slice for facts in ledger.slices()] == [A, B]


def test_passing_failure_stays_resumable_and_the_next_page_clears_it(ledger):
    store(ledger, A, ["t1"])
    ledger.fail_slice(A, SliceState.FAILED, "timed out", resumable=True)
    facts = facts_of(ledger, A)
    assert (facts.state, facts.error, facts.resumable) == (SliceState.WALKING, "timed out", True)
    assert ledger.checkpoint(A).starting_token == "t1"
    store(ledger, A, ["t2"])
    assert (facts_of(ledger, A).error, facts_of(ledger, A).resumable) == (None, False)


@pytest.mark.parametrize("state", [SliceState.FAILED, SliceState.GONE])
def test_failure_for_good_says_so(ledger, state):
    ledger.fail_slice(A, state, "denied", resumable=False)
    assert (facts_of(ledger, A).state, facts_of(ledger, A).error) == (state, "denied")


def test_new_attempt_drops_the_pages_and_the_token(ledger):
    store(ledger, A, ["t1", "t2"])
    store(ledger, B, ["u1"])
    ledger.restart_slice(A)
    assert ledger.checkpoint(A) == module.Checkpoint()
    assert list(ledger.pages(A)) == []
    assert (facts_of(ledger, A).attempt, facts_of(ledger, A).state) == (2, SliceState.WALKING)
    assert ledger.checkpoint(B).starting_token == "u1"
    pages = store(ledger, A, ["t1", None])  # the same tokens may come again
    assert list(ledger.pages(A)) == pages


def test_page_number_is_unique_within_an_attempt(ledger):
    store(ledger, A, ["t1"])
    with pytest.raises(LedgerError, match="UNIQUE"):
        ledger.store_page(A, page([], 1, token="t2"))
    assert ledger.checkpoint(A).starting_token == "t1"
    ledger.store_page(B, page([], 1, token="t2"))  # another slice counts for itself


def test_threads_store_their_slices_at_the_same_time(ledger):
    parts = [part(f"s{n}") for n in range(8)]
    for where in parts:
        ledger.add_slice(where)
    tokens = [f"t{n}" for n in range(1, 20)] + [None]
    with ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(lambda where: store(ledger, where, tokens), parts))
    assert [list(ledger.pages(where)) for where in parts] == stored
    assert all(facts_of(ledger, where).whole for where in parts)


def test_pages_can_be_read_while_others_are_stored(ledger):
    """A child's slices are planned out of its parent's pages while other slices go on."""
    store(ledger, A, ["t1", "t2", None])
    numbers = []
    for stored in ledger.pages(A):
        store(ledger, B, [f"u{stored.number}"])
        numbers.append(stored.number)
    assert numbers == [1, 2, 3]


# Publication


def test_publication_intent_is_reused_until_it_is_confirmed_and_rises_otherwise(ledger, path):
    ids = [A.slice_id, B.slice_id]
    first = ledger.plan_publication("things", ids)
    ledger.close()  # crash
    with Ledger.open(path) as again:
        assert again.plan_publication("things", ids[::-1]).number == first.number
        assert again.plan_publication("things", ids[:1]).number > first.number
        assert again.plan_publication("others", ids).number > first.number
        again.mark_published(first, 1, {})
        assert again.plan_publication("things", ids).number == first.number, "a crash may still undo it"
        again.confirm()
        assert again.plan_publication("things", ids).number > first.number


def test_publications_are_open_until_they_are_confirmed(ledger):
    first = ledger.plan_publication("things", [A.slice_id])
    ledger.plan_publication("others", [B.slice_id])
    ledger.mark_published(first, 1, {})
    assert ledger.open_publications() == {"things": {A.slice_id}, "others": {B.slice_id}}
    ledger.confirm()
    assert ledger.open_publications() == {"others": {B.slice_id}}, "it was never marked"


def test_published_slice_keeps_what_became_of_its_records(ledger):
    store(ledger, A, [None])
    publication = ledger.plan_publication("things", [A.slice_id])
    assert facts_of(ledger, A).publication is None
    outcome = {
        "rows": 1, "rejects": 1, "duplicates": 0, "partial": False, "drift": {"b", "a"}, "table_rows": {"things": 1}
    }  # fmt: skip
    ledger.mark_published(publication, 7, {A.slice_id: outcome})
    facts = facts_of(ledger, A)
    assert (facts.publication, facts.rows, facts.rejects, facts.duplicates) == (7, 1, 1, 0)
    assert facts.table_rows == {"things": 1}
    assert facts.drift == ("a", "b")
    assert facts_of(ledger, B).publication is None


def test_intent_and_outcome_are_one_transaction(ledger):
    """`published` without the counts of every slice would be half a truth."""
    publication = ledger.plan_publication("things", [A.slice_id])
    whole = {"rows": 1, "rejects": 0, "duplicates": 0, "partial": False, "drift": (), "table_rows": {}}
    with pytest.raises(KeyError):
        ledger.mark_published(publication, 1, {A.slice_id: whole, B.slice_id: {}})
    assert facts_of(ledger, A).publication is None
    assert ledger.plan_publication("things", [A.slice_id]).number == publication.number


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


# Pages of several slices


@pytest.fixture
def storing(ledger):
    """Return a function that stores pages of several slices while all of them wait, and how each of them ended."""

    def store_together(*pages):
        with ThreadPoolExecutor(len(pages)) as pool:
            with ledger._storing:
                futures = [pool.submit(ledger.store_page, where, stored) for where, stored in pages]
                while len(ledger._arrived) < len(pages):
                    threading.Event().wait(0)
            return [future.exception() for future in futures]

    return store_together


def test_pages_of_several_slices_that_wait_are_stored_by_one_transaction(ledger, storing):
    """A sync takes longer than all else: with many slices at once, one for each page would be what a walk waits for."""
    commits = []
    ledger.database._connection.set_trace_callback(
        lambda statement: commits.append(statement) if statement == "commit" else None
    )
    assert storing((A, page([{}], 1, token="a2")), (B, page([{}, {}], 1, token="b2"))) == [None, None]
    assert len(commits) == 1
    assert [ledger.checkpoint(where).starting_token for where in (A, B)] == ["a2", "b2"]
    assert [facts_of(ledger, where).records for where in (A, B)] == [1, 2]


def test_page_that_cannot_be_stored_does_not_keep_the_others_out(ledger, storing):
    ledger.store_page(A, page([{}], 1, token="a2"))
    twice, fine = storing((A, page([{}], 1, token="a3")), (B, page([{}], 1, token="b2")))
    assert isinstance(twice, LedgerError)
    assert fine is None
    assert [ledger.checkpoint(where).starting_token for where in (A, B)] == ["a2", "b2"]


def test_full_disk_is_told_to_everyone_who_waits(ledger, storing, monkeypatch):
    def refuse(_several):
        raise StorageError("full")

    monkeypatch.setattr(ledger, "_store", refuse)
    ended = storing((A, page([{}], 1, token="a2")), (B, page([{}], 1, token="b2")))
    assert [str(exc) for exc in ended] == ["full", "full"]
    assert [ledger.checkpoint(where).pages for where in (A, B)] == [0, 0]


def test_file_that_may_be_written_and_was_opened_only_to_read_is_no_matter_of_rights(path):
    """SQLite does so if opening it to write fails, whatever the reason, such as a full quota: to run again may help."""
    Ledger.create(path, "run", DATE, "request").close()
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    with closing(connection), pytest.raises(StorageError, match="SQLITE_READONLY") as raised, sqlite_errors(path):
        connection.execute("delete from run")
    assert raised.value.exit_code == 3
    assert refused_by_system(raised.value) is None
