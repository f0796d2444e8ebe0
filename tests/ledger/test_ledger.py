"""The ledger: one transaction is a page and the token that follows it, and nothing that was stored is guessed at."""

import hashlib
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.ledgers import A, B, facts_of, store
from support.programs import run_code
from support.shapes import DATE, dataset, operation, page, part

from etl.errors import LedgerError, StorageError
from etl.ledger import ledger as module
from etl.ledger.ledger import Ledger
from etl.model import SliceState

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
