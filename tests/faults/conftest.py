"""What many faults are compared with: a small studio, and what a run that nobody disturbs exports from it."""

import pytest
from support.job import RUN, job_at
from support.studios import studio_of

from etl.emulator import World


@pytest.fixture(scope="module")
def small_studio():
    """Two studios of 40 sessions: 2 pages each."""
    with studio_of(World(sessions_per_studio=40)) as studio:
        yield studio


@pytest.fixture(scope="module")
def undisturbed(small_studio, tmp_path_factory):
    """A job that has exported that studio, for commands that only read."""
    job = job_at(tmp_path_factory.mktemp("undisturbed"), small_studio)
    assert job.finish(*RUN) == 0
    return job


@pytest.fixture(scope="module")
def expected(undisturbed):
    """The rows of that export."""
    return undisturbed.exported_rows()
