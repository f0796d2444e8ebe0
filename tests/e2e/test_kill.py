"""kill -9 at random moments, each followed by a rerun: nothing lost, nothing doubled, nothing fetched twice."""

import os
import random
import signal
import time
from itertools import pairwise

import pytest
from support.job import RUN, job_at
from support.stores import THOROUGH
from support.studios import studio_of

from etl.emulator import World
from etl.ledger.directory import ledger_paths
from etl.ledger.ledger import Ledger

PAGES = 200
GROUPS = 10 if THOROUGH else 5
KILLS = 5 * GROUPS


@pytest.fixture(scope="module")
def big_studio():
    """One studio with 200 pages of 5 sessions."""
    with studio_of(World(studios=1, sessions_per_studio=PAGES * 5), page_size=5) as studio:
        yield studio


@pytest.fixture(scope="module")
def uninterrupted(big_studio, tmp_path_factory):
    """The rows of an export that nobody disturbs, and how long it takes in seconds."""
    job = job_at(tmp_path_factory.mktemp("uninterrupted"), big_studio)
    job.finish(*RUN)  # the first start also starts the fork server
    began = time.monotonic()
    assert job.finish(*RUN) == 0
    return job.exported_rows(), time.monotonic() - began


@pytest.mark.parametrize("group", range(GROUPS))
def test_fault_29_to_35_kill_at_any_moment_then_rerun_equals_an_uninterrupted_export(
    group, big_studio, uninterrupted, tmp_path
):
    """Every kill must hit: one that comes after the end is drawn again, sooner."""
    rows, seconds = uninterrupted
    seed = 1000 + group
    print(f"seed {seed}")
    chance = random.Random(seed)
    for number in range(KILLS // GROUPS):
        share = chance.random()
        while True:
            job = job_at(tmp_path / f"{number}-{share:.4f}", big_studio)
            process = job.start(*RUN)
            process.join(timeout=share * seconds)
            process.kill()
            process.join()
            if process.exitcode == -signal.SIGKILL and not has_ended(job):
                break
            share *= 0.9
        asked_before = len(big_studio.requests)
        stored = stored_starting_tokens(job)

        assert job.finish(*RUN) == 0, job.log
        assert job.exported_rows() == rows
        asked_after = {
            (request.operation, request.token) for request in big_studio.requests[asked_before:] if request.operation
        }
        assert not asked_after & stored, "a page that was stored was requested again"


ONE_AT_A_TIME = """
import support.job
from etl.extract import source

source.SLOW_S = 3600.0
support.job._child(arguments, environment, log)
"""
"""A program for `Job.start_program`: the command line that asks for no page before it has stored the one before it.

On a busy machine, answers may be slow. Then the next page is asked for early, and at a signal it is asked for in vain.
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_fault_44_a_signal_ends_the_run_resumable_with_the_page_in_flight_stored(number, big_studio, tmp_path):
    job = job_at(tmp_path, big_studio)
    asked = len(big_studio.requests)
    process = job.start_program(ONE_AT_A_TIME, *RUN)
    while len(big_studio.requests) < asked + 20:
        process.join(timeout=0.01)
        assert process.exitcode is None
    os.kill(process.pid, number)
    process.join()

    assert process.exitcode == 3, job.log
    answered = [request for request in big_studio.requests[asked:] if (request.operation or "").startswith("List")]
    (path,) = ledger_paths(job.directory / "state")
    with Ledger.open(path) as ledger:
        assert sum(facts.pages for facts in ledger.slices()) == len(answered) < PAGES


def has_ended(job):
    """Whether the run had done everything before its process was killed: the next run is another one."""
    for path in ledger_paths(job.directory / "state"):
        with Ledger.open(path) as ledger:
            return ledger.run().state != "open"
    return False


def stored_starting_tokens(job):
    """Return (operation, page token of the request) for each page that the killed run stored."""
    from botocore.paginate import TokenDecoder  # noqa: PLC0415

    operations = {"studios": "ListStudios", "streaming_sessions": "ListStreamingSessions"}
    stored = set()
    for path in ledger_paths(job.directory / "state"):
        with Ledger.open(path) as ledger:
            for facts in ledger.slices():
                pages = list(ledger.pages(facts.slice))
                tokens = [None, *(page.next_starting_token for page in pages)]
                for token, _ in pairwise(tokens):
                    sent = TokenDecoder().decode(token)["nextToken"] if token else None
                    stored.add((operations[facts.slice.dataset], sent))
    return stored
