"""Machines with state directories and clocks of their own that share a warehouse, and jobs that wait at a step."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

from etl.emulator import EmbeddedStudio
from support.job import _FORKS, DATE, Job

ONE_WAREHOUSE = "warehouse: {path: ../warehouse}"

HELD = """
import os
import support.job

def kill(_pid, _number):
    talk.send("there")
    talk.recv()

os.kill = kill
support.job._child(arguments, environment, log)
"""
"""A job that is not killed at its failpoint: it says that it is there, and waits for an answer."""


def machines(directory: Path, *studios: EmbeddedStudio, source: str = "", rest: str = "") -> list[Job]:
    """Return a job for each studio, in a directory of its own; their warehouse is one."""
    return [
        Job(
            directory / f"machine-{number}",
            studio.endpoint_url,
            studio.credentials,
            source=source,
            rest=f"{ONE_WAREHOUSE}\n{rest}",
        )
        for number, studio in enumerate(studios)
    ]


@contextmanager
def held_at(job: Job, step: str, *arguments: str, date: dt.date = DATE, **environment: str) -> Iterator[BaseProcess]:
    """Yield a process that runs the job for a date, while it waits at a step; then let it go on."""
    talk, theirs = _FORKS.Pipe()
    failpoint = {"NIMBLE_ETL_FAILPOINT": step}
    words = ("run", "--snapshot-date", date.isoformat(), *arguments)
    process = job.start_program(HELD, *words, names={"talk": theirs}, **environment, **failpoint)
    theirs.close()
    assert talk.recv() == "there"
    yield process
    if process.is_alive():
        talk.send("go on")


def wait_until_it_waits(job: Job, process: BaseProcess, since: int = 0) -> None:
    """Return once a process says that it waits for a lock, in what its job's log has after `since` characters."""
    while "waiting for its end" not in job.log[since:]:
        process.join(timeout=0.02)
        assert process.is_alive(), f"it did not wait: {job.log[since:]}"
