"""A studio and a job that every room's tests may use; and `--faults`."""

import pytest
from support.catalogue import pytest_addoption, pytest_configure  # noqa: F401  pytest looks for its hooks here
from support.job import NIGHT, job_at

from etl.emulator import EmbeddedStudio, StudioSettings, World


@pytest.fixture
def studio():
    """Two studios of 120 sessions, 20 on a page: 6 pages each and a little time."""
    with EmbeddedStudio(World(sessions_per_studio=120), StudioSettings(page_size=20, instant=NIGHT)) as studio:
        yield studio


@pytest.fixture
def job(tmp_path, studio, monkeypatch):
    """A job against that studio; its credentials are in the environment."""
    job = job_at(tmp_path / "job", studio)
    for name, value in job.environment.items():
        monkeypatch.setenv(name, value)
    return job
