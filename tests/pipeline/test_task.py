"""Workers on tasks: two on the same one, one that is overtaken, and one that fails."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.job import DATE, Job
from support.studios import LIST, asked_for_sessions, studio_of

from etl.emulator import World
from etl.errors import StorageError
from etl.extract.clients import Endpoint
from etl.extract.source import Source
from etl.jobs.workplace import plan_of
from etl.ledger.ledger import Ledger
from etl.ledger.segments import OvertakenError, Segments, Size, TaskLedger
from etl.load.delta.tables import Tables
from etl.model import Slice
from etl.pipeline.task import Task, Work, Worker
from etl.pipeline.walks import Stop
from etl.storage.disk import Disk

WORLD = World(studios=3, sessions_per_studio=60)
PAGES = 12


@pytest.fixture
def studio():
    with studio_of(WORLD, page_size=5) as studio:
        yield studio


@pytest.fixture
def task():
    slices = (
        Slice("streaming_sessions", WORLD.account_id, "us-west-2", {"studioId": name}) for name in WORLD.studio_ids
    )
    return Task(tuple(slices))


@pytest.fixture
def worker_of(studio, tmp_path):
    """Return a function that returns one more worker, with a source and a stop of its own, and the same segments."""
    settings = Job(tmp_path / "job", studio.endpoint_url, studio.credentials).settings(datasets=["streaming_sessions"])
    disk = Disk(tmp_path / "warehouse")
    disk.check_writable()
    with Ledger.temporary("20261120T020000Z-abcdef", DATE) as ledger:
        ledger.set_account(WORLD.account_id)
        run = ledger.run()

    def worker():
        stop = Stop()
        source = Source(settings.source, Endpoint(studio.endpoint_url, studio.credentials), stop)
        plan = plan_of(settings, source.operation, source.endpoint_of)
        work = Work("0.1.0", run, plan, settings.run, Size(pages=3))
        return Worker(work, source, Tables(disk), Segments(disk, run.run_id), stop)

    return worker


def test_fault_92_two_workers_on_one_task_at_once_stage_the_same(studio, task, worker_of, monkeypatch):
    overtaken, put = [], Segments.put

    def counted(*arguments):
        try:
            put(*arguments)
        except OvertakenError:
            overtaken.append(threading.get_ident())
            raise

    monkeypatch.setattr(Segments, "put", counted)
    workers = [worker_of(), worker_of()]
    with ThreadPoolExecutor(2) as pool:
        one, other = (done.rows["streaming_sessions"] for done in pool.map(lambda worker: worker.do(task), workers))

    assert overtaken
    assert not any(worker.stop.is_set() for worker in workers), "they have more tasks to do"
    assert one.pages_sha256 == other.pages_sha256
    assert one.pages_sha256.keys() == {slice_.slice_id for slice_ in task.slices}
    assert one.counts == other.counts
    assert not {file.name for group in one.files.values() for file in group} & {
        file.name for group in other.files.values() for file in group
    }
    pages = len(set(asked_for_sessions(studio))) + len(task.slices) - 1
    assert len(asked_for_sessions(studio)) <= 2 * pages


def test_a_task_that_fails_leaves_its_worker_to_the_next_one(task, worker_of, monkeypatch):
    worker = worker_of()
    with monkeypatch.context() as patch:
        patch.setattr(TaskLedger, "store_page", lambda *_: (_ for _ in ()).throw(StorageError("the disk is full")))
        with pytest.raises(StorageError):
            worker.do(task)
    assert worker.do(task).rows["streaming_sessions"].pages_sha256.keys() == {one.slice_id for one in task.slices}


def test_a_worker_that_is_told_to_stop_keeps_what_it_has_walked(studio, task, worker_of):
    studio.set_faults([f"stall:{LIST},page=4,times=ever"])
    worker = worker_of()
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(worker.do, task)
        while len(asked_for_sessions(studio)) < 4 * len(task.slices):
            assert not doing.done()
        worker.stop.set()
        assert doing.result().rows["streaming_sessions"].pages_sha256 == {}
    studio.set_faults([])
    before = len(asked_for_sessions(studio))

    worker_of().do(task)

    assert asked_for_sessions(studio)[before:].count(None) == 0
