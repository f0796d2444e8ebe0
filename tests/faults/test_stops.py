"""Signals and deadlines end a run within seconds, whatever the source does or does not do."""

import os
import signal
import time

import pytest
from support.job import RUN
from support.studios import LIST, asked_for_sessions, fired, first

SOON_S = 10


@pytest.fixture
def stalled(studio):
    """The studio, which takes the request for the second page of its first studio's sessions and never answers."""
    studio.set_faults([f"stall:{LIST},studio={first(studio)},page=2"])
    return studio


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_fault_44_a_signal_while_the_source_is_silent_ends_the_run_within_seconds(job, stalled, number):
    """One slice is walked: another one would have a page of its own that was not answered yet."""
    request = (*RUN, "--studio-id", first(stalled))
    process = job.start(*request)
    while not fired(stalled) and process.is_alive():
        process.join(0.05)
    os.kill(process.pid, number)
    process.join(SOON_S)

    assert fired(stalled) == {"stall"}
    assert process.exitcode == 3, "ended by itself, in time, resumable"
    assert "no answer came before the stop" in job.log
    tokens = asked_for_sessions(stalled)
    assert job.finish(*request) == 0
    again = [token for token in asked_for_sessions(stalled)[len(tokens) :] if token is not None and token in tokens]
    assert len(again) == 1, "only the page that was not answered is asked for again"


def test_fault_44_a_deadline_while_the_source_is_silent_publishes_what_is_complete(job, stalled):
    began = time.monotonic()
    done = job.cli(*RUN, "--max-duration", "1s")

    assert time.monotonic() - began < 1 + SOON_S + 5, "start-up and publishing included"
    assert fired(stalled) == {"stall"}
    assert done.returncode == 3
    ((published,),) = job.ask("select count(*) from etl_slices where is_published")
    assert published == 2, "the studios, and the sessions of the studio that answered"
