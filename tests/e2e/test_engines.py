"""The engines: whoever walks the slices, every table is the same, although workers and drivers are killed."""

import signal

import pytest
from support.alike import NEXT, everything, two_nights_of_threads
from support.job import NIGHT, RUN, finished, job_at
from support.studios import LIST, asked_for_sessions, fired, studio_of
from support.thorough import part

from etl.emulator import World
from etl.ledger.segments import Segments

WORLD = World(studios=5, sessions_per_studio=60)
PROCESSES = "engine: {kind: processes, workers: 2, tasks: 4, segment_pages: 3}"
WITHOUT_PAGES = """
import support.job
from etl.ledger.ledger import Ledger
from etl.pipeline import write

pages = Ledger.pages
Ledger.pages = lambda self, slice_: pages(self, slice_) if slice_.dataset == "studios" else None
write.write_changes = None
support.job._child(arguments, environment, log)
"""
"""A program for `Job.start_program`: the command line of a driver that reads no sessions, and finds no changes."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    found = two_nights_of_threads(WORLD, tmp_path_factory.mktemp("threads"))
    assert all(found[1][name] for name in ("streaming_sessions", "streaming_session_changes", "etl_slices"))
    return found


@pytest.fixture
def studio():
    with studio_of(WORLD, page_size=5) as studio:
        yield studio


@pytest.fixture
def job(studio, tmp_path):
    return job_at(tmp_path / "job", studio, rest=PROCESSES)


def chains(job):
    return job.store.listed(job.store.at("_tasks"))


def test_two_nights_of_processes_are_those_of_threads(job, studio, expected):
    assert job.finish(*RUN) == 0
    assert everything(job) == expected[0]
    assert len(asked_for_sessions(studio)) == len(set(asked_for_sessions(studio))) + 4, "each first page has no token"
    assert chains(job) == {}, "they go with the end of the run"
    with studio_of(WORLD, at=NEXT, page_size=5) as later:
        again = job_at(job.directory, later, rest=PROCESSES)
        assert again.finish("run", "--snapshot-date", NEXT.date().isoformat()) == 0
        assert everything(again) == expected[1]
        assert again.problems() == []


@pytest.mark.parametrize("night", [NIGHT, NEXT])
def test_what_workers_have_staged_is_committed_as_it_is(night, expected, tmp_path):
    """The driver has every page too, so it would not show in the tables."""
    if night is NEXT:
        with studio_of(WORLD, page_size=5) as studio:
            assert job_at(tmp_path / "job", studio).finish(*RUN) == 0
    with studio_of(WORLD, at=night, page_size=5) as studio:
        job = job_at(tmp_path / "job", studio, rest=PROCESSES)
        date = night.date().isoformat()
        assert finished(job.start_program(WITHOUT_PAGES, "run", "--snapshot-date", date)) == 0, job.log
        assert everything(job) == expected[night is NEXT]


def test_fault_90_workers_that_are_killed_cost_a_segment_each(job, studio, expected):
    assert job.finish(*RUN, NIMBLE_ETL_WORKER_FAILPOINT="page.stored:10") == 0
    deaths = job.log.count("a worker process died")
    assert deaths >= 3
    assert everything(job) == expected[0]
    asked = asked_for_sessions(studio)
    again = len(asked) - (len(set(asked)) + len(WORLD.studio_ids) - 1)
    # Two workers are lost at a time: the pool does not live on without one of them.
    assert 0 < again <= deaths * 2 * (3 + 8)


@pytest.mark.parametrize(
    "step", part(["tables.noted", "table.committed:2", "facts.published", "tables.whole", "catalog.swapped"], 3)
)
def test_fault_91_a_driver_that_is_killed_goes_on_with_what_workers_have_walked(job, studio, expected, step):
    assert job.finish(*RUN, NIMBLE_ETL_FAILPOINT=step) == -signal.SIGKILL
    asked = len(asked_for_sessions(studio))

    assert job.finish(*RUN) == 0

    assert len(asked_for_sessions(studio)) == asked, "every page was in a segment"
    assert everything(job) == expected[0]
    assert chains(job) == {}
    assert job.problems() == []


def test_a_deadline_leaves_what_workers_have_walked_to_the_next_run(job, studio, expected):
    studio.set_faults([f"stall:{LIST},page=4,times=ever"])
    assert job.finish(*RUN, "--max-duration", "6s") == 3, job.log
    assert fired(studio) == {"stall"}
    studio.set_faults([])

    assert job.finish(*RUN) == 0

    assert everything(job) == expected[0]
    assert asked_for_sessions(studio).count(None) == len(WORLD.studio_ids), "no page that was stored is asked for again"


def test_a_signal_ends_workers_and_the_next_run_goes_on(job, studio, expected):
    studio.set_faults([f"stall:{LIST},page=4,times=ever"])
    stopping = job.start(*RUN)
    while not fired(studio):
        assert stopping.is_alive(), job.log
    stopping.terminate()
    assert finished(stopping) == 3, job.log
    assert "Traceback" not in job.log
    studio.set_faults([])

    assert job.finish(*RUN) == 0

    assert everything(job) == expected[0]
    assert asked_for_sessions(studio).count(None) == len(WORLD.studio_ids)


def test_a_process_with_another_version_is_refused_with_both(job):
    program = """
import support.job
from etl.jobs import engine

engine.VERSION = "0.0.1"  # of the driver
support.job._child(arguments, environment, log)
"""
    assert finished(job.start_program(program, *RUN)) == 2
    assert "this worker has nimble-etl 0.1.0, and the driver has 0.0.1; install the same version on both" in job.log
    assert "Traceback" not in job.log


def test_forget_takes_what_workers_have_kept_of_a_run_that_goes_on(job, studio):
    assert job.finish(*RUN) == 0
    tomorrow = ("run", "--snapshot-date", NEXT.date().isoformat())
    studio.set_instant(NEXT)
    assert job.finish(*tomorrow, NIMBLE_ETL_FAILPOINT="tables.noted") == -signal.SIGKILL
    assert chains(job)
    ((owner,),) = job.ask("select max(owned_by) from streaming_sessions")

    assert job.finish("forget", "--where", f"owned_by={owner}", "--yes") == 0, job.log

    assert chains(job) == {}
    assert job.finish(*tomorrow) == 0
    assert job.problems() == []


def test_vacuum_removes_what_workers_have_kept_of_runs_that_nobody_goes_on_with(job):
    assert job.finish(*RUN, NIMBLE_ETL_FAILPOINT="tables.noted") == -signal.SIGKILL
    kept = chains(job)
    old = Segments(job.store, "20250101T000000Z-aaaaaa")
    old.plan(1, [["a"]])
    assert job.finish("vacuum") == 0
    assert chains(job) == kept
    assert old.planned(1) is None
