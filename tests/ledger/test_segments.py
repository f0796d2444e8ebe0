"""Chains of segments: what one worker has walked, another goes on with, and of two at once one extends the chain."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
from support.shapes import ACCOUNT, DATE, dataset, operation, page, part
from support.stores import KINDS, as_another_process, overwrite, store_of

from etl.errors import LedgerError
from etl.ledger.ledger import Ledger
from etl.ledger.segments import OvertakenError, Segments, Size, TaskLedger, remove_chains
from etl.model import SliceState

RUN_ID = "20261120T020000Z-abcdef"
TASK = "task"
A, B = part("a"), part("b")
IDS = [A.slice_id, B.slice_id]


def writable(store):
    """Return a store as a job has it, that has looked at it when it began."""
    store.check_writable()
    return store


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    return writable(store_of(request.param, tmp_path / "warehouse"))


@pytest.fixture
def disk(tmp_path):
    return writable(store_of("disk", tmp_path / "warehouse"))


@pytest.fixture
def worker(tmp_path):
    """Return a function that returns the ledger of one more worker on the same task, which has adopted the chain."""
    with closing(Workers(tmp_path)) as workers:
        yield workers.begin


class Workers:
    def __init__(self, directory):
        self.directory, self.ledgers = directory, []

    def begin(self, store, **size):
        with Ledger.create(self.directory / f"run{len(self.ledgers)}.sqlite", RUN_ID, DATE, "request") as ledger:
            run = replace(ledger.run(), account_id=ACCOUNT)
        segments = Segments(as_another_process(store), RUN_ID)
        ledger = TaskLedger.begin(run, segments, TASK, Size(**{"pages": 2, **size}))
        self.ledgers.append(ledger)
        plan(ledger)
        ledger.adopt(IDS)
        return ledger

    def close(self):
        for ledger in self.ledgers:
            ledger.close()


def plan(ledger):
    ledger.add_dataset(dataset(), operation(), published=True)
    ledger.add_slices([(A, None), (B, None)])


def pages_of(ledger, where=A):
    return [one.body for one in ledger.pages(where)]


def body(number, *, token="more", mark=""):
    return page([{"thingId": f"{mark}{number}"}], number, token=token and f"{token}{number}")


def chain(store):
    return sorted(name.rpartition("/")[2] for name in store.listed(store.at("_tasks")))


def test_another_worker_goes_on_where_the_last_segment_ends(store, worker):
    first = worker(store)
    for number in 1, 2, 3:
        first.store_page(A, body(number))

    second = worker(store)
    assert second.checkpoint(A).pages == 2, "the third page has not become a segment"
    assert second.checkpoint(A).starting_token == "more2"
    assert pages_of(second) == pages_of(first)[:2]
    second.store_page(A, body(3))
    second.store_page(A, body(4, token=None))
    second.finish()

    third = worker(store)
    assert third.slices()[0].state is SliceState.COMPLETE
    assert third.run().account_id == ACCOUNT
    assert pages_of(third) == pages_of(second)
    assert third.slices() == second.slices()
    assert chain(store) == ["000001.segment", "000002.segment"]


def test_fault_92_two_workers_on_one_task_make_one_chain(store, worker):
    first, second = worker(store), worker(store)
    for ledger in first, second:
        ledger.store_page(A, body(1))
    first.store_page(A, body(2))

    with pytest.raises(OvertakenError):
        second.store_page(A, body(2, mark="other"))

    assert pages_of(worker(store)) == pages_of(first)
    first.store_page(A, body(3))
    first.finish()
    assert chain(store) == ["000001.segment", "000002.segment"]


def test_of_many_that_write_one_segment_at_once_one_succeeds(store):
    segments = [Segments(as_another_process(store), RUN_ID) for _ in range(6)]
    landed, ready = [], threading.Barrier(len(segments))

    def put(number):
        ready.wait()
        try:
            segments[number].put(TASK, 1, b"%d" % number)
        except OvertakenError:
            return
        landed.append(b"%d" % number)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(len(segments))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(landed) == 1
    assert store.read(store.at("_tasks", RUN_ID, TASK, "000001.segment")) == landed[0]
    assert chain(store) == ["000001.segment"], "no draft is left"


def test_pages_of_a_walk_that_began_again_are_not_mixed_with_the_former_ones(disk, worker):
    first = worker(disk)
    for number in 1, 2, 3:
        first.store_page(A, body(number))
    first.restart_slice(A)
    first.store_page(A, body(1, mark="again"))
    first.store_page(A, body(2, mark="again", token=None))
    first.store_page(B, body(1))
    first.finish()

    second = worker(disk)
    assert [one.body for one in second.pages(A)] == [body(1, mark="again").body, body(2, mark="again", token=None).body]
    assert second.slices() == first.slices()
    assert second.slices()[0].attempt == 2
    attempts = second.database.rows("select distinct attempt from page where slice_id = ?", A.slice_id)
    assert [attempt for (attempt,) in attempts] == [2]


def test_why_a_walk_failed_is_in_the_chain_although_no_page_came(disk, worker):
    first = worker(disk)
    first.fail_slice(A, SliceState.FAILED, "refused", resumable=False)
    first.fail_slice(B, SliceState.FAILED, "throttled", resumable=True)
    first.finish()

    found = worker(disk).slices()
    assert [(one.state, one.error, one.resumable) for one in found] == [
        (SliceState.FAILED, "refused", False),
        (SliceState.WALKING, "throttled", True),
    ]


@pytest.mark.parametrize("size", [{"pages": 3}, {"pages": 99, "size_bytes": 130}, {"pages": 99, "seconds": 0}])
def test_what_waits_becomes_a_segment_when_it_is_large_or_old(disk, worker, size):
    ledger = worker(disk, **size)
    written = []
    for number in range(1, 7):
        ledger.store_page(A, body(number))
        written.append(len(chain(disk)))
    each = 1 if "seconds" in size else 3
    assert written == [number // each for number in range(1, 7)]


def test_a_ledger_says_what_the_chain_says_and_nothing_else(disk, worker, tmp_path):
    """The rows that a worker has staged are those of its chain: no page from elsewhere may be among them."""
    first = worker(disk)
    first.store_page(A, body(1))
    first.store_page(B, body(1))
    with Ledger.create(tmp_path / f"{RUN_ID}.sqlite", RUN_ID, DATE, "request") as ledger:
        plan(ledger)
        for number in 1, 2:
            ledger.store_page(A, body(number, mark="elsewhere"))
        Segments(disk, RUN_ID).adopt(ledger, TASK, IDS)

        assert pages_of(ledger) == pages_of(first)
        assert ledger.slices() == first.slices()

        assert Segments(disk, RUN_ID).adopt(ledger, "another task", IDS) == 0
        assert [one.pages for one in ledger.slices()] == [0, 0]
        assert ledger.checkpoint(A).starting_token is None


def test_the_pages_of_a_published_slice_stay_what_they_are(disk, worker, tmp_path):
    first = worker(disk)
    first.store_page(A, body(1, token=None))
    first.store_page(B, body(1, token=None))
    with Ledger.create(tmp_path / f"{RUN_ID}.sqlite", RUN_ID, DATE, "request") as ledger:
        plan(ledger)
        ledger.store_page(A, body(1, mark="published", token=None))
        outcome = {"rows": 1, "rejects": 0, "duplicates": 0, "partial": False, "drift": (), "table_rows": {}}
        ledger.mark_published(ledger.plan_publication("things", [A.slice_id]), 1, {A.slice_id: outcome})

        Segments(disk, RUN_ID).adopt(ledger, TASK, IDS)

        assert pages_of(ledger) == [body(1, mark="published", token=None).body]
        assert pages_of(ledger, B) == pages_of(first, B)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:300], "000001.segment: .*damaged"),
        (lambda content: content.replace(RUN_ID.encode(), b"20261120T020000Z-bbbbbb"), "000001.segment: .*another run"),
        (lambda _: None, "000001.segment: this segment is missing"),
    ],
)
def test_a_segment_that_is_not_what_was_written_is_named(store, worker, damage, said):
    ledger = worker(store)
    for number in 1, 2, 3, 4:
        ledger.store_page(A, body(number))
    name = store.at("_tasks", RUN_ID, TASK, "000001.segment")
    overwrite(store, name, damage(store.read(name)))
    with pytest.raises(LedgerError, match=said):
        worker(store)


def test_the_plan_that_was_first_stays(store):
    segments = Segments(store, RUN_ID)
    assert segments.planned(1) is None
    assert segments.plan(1, [["a", "b"], ["c"]]) == [["a", "b"], ["c"]]
    assert Segments(as_another_process(store), RUN_ID).plan(1, [["a"]]) == [["a", "b"], ["c"]]
    assert segments.planned(2) is None
    overwrite(store, store.at("_tasks", RUN_ID, "000001.plan"), b"[[")
    with pytest.raises(LedgerError, match=r"000001\.plan: .*damaged"):
        segments.planned(1)


def test_chains_of_runs_that_are_over_are_removed(store, worker):
    worker(store).store_page(A, body(1))
    for run_id in "20250101T000000Z-aaaaaa", RUN_ID:
        segments = Segments(store, run_id)
        segments.plan(1, [IDS])
        segments.put(TASK, 1, b"")
    remove_chains(store, "20250101T000000Z-aaaaaa".__eq__)
    assert {name.split("/")[-2] for name in store.listed(store.at("_tasks"))} == {RUN_ID, TASK}
    assert Segments(store, "20250101T000000Z-aaaaaa").planned(1) is None
    remove_chains(store, lambda _: True)
    assert chain(store) == []


def test_a_segment_has_the_pages_that_its_slices_say_it_has_however_many_threads_walk(disk, worker, tmp_path):
    """Whoever dies leaves the first segments: after each of them, the next worker must find no page missing."""
    ledger = worker(disk, pages=3)
    slices = [part(f"studio-{number}") for number in range(8)]
    ledger.add_slices((slice_, None) for slice_ in slices)

    def walk(slice_):
        for number in range(1, 31):
            ledger.store_page(slice_, body(number))

    with ThreadPoolExecutor(len(slices)) as pool:
        list(pool.map(walk, slices))
    ledger.finish()

    names = sorted(disk.listed(disk.at("_tasks")))
    assert len(names) == 80
    left = store_of("disk", tmp_path / "left")
    with Ledger.temporary(RUN_ID, DATE) as next_one:
        plan(next_one)
        next_one.add_slices((slice_, None) for slice_ in slices)
        for number, name in enumerate(names, 1):
            overwrite(left, name.replace(disk.uri, left.uri), disk.read(name))
            if number % 4 == 0:
                Segments(left, RUN_ID).adopt(next_one, TASK, [slice_.slice_id for slice_ in slices])
                assert sum(next_one.checkpoint(slice_).pages for slice_ in slices) == 3 * number
