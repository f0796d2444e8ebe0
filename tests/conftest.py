"""A studio and a job that every room's tests may use; and `--faults`."""

import pytest
from support.catalogue import pytest_addoption, pytest_configure  # noqa: F401  pytest looks for its hooks here
from support.job import job_at
from support.studios import studio_of

from etl.emulator import World


@pytest.fixture
def studio():
    """Two studios of 120 sessions, 20 on a page: 6 pages each and a little time."""
    with studio_of(World(sessions_per_studio=120)) as studio:
        yield studio


@pytest.fixture
def job(tmp_path, studio, monkeypatch):
    """A job against that studio; its credentials are in the environment."""
    return job_at(tmp_path / "job", studio).lend_credentials(monkeypatch)
