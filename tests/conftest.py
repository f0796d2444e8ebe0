"""A studio and a job that every room's tests may use; `--faults` and `--store`."""

import inspect

import pytest
import support.buckets
import support.job
from support.buckets import started
from support.catalogue import pytest_addoption, pytest_configure  # noqa: F401  pytest looks for its hooks here
from support.job import job_at
from support.studios import studio_of

from etl.emulator import World
from etl.extract import source


@pytest.fixture(autouse=True)
def _answers_are_quick(monkeypatch):
    """On a busy machine, an answer may be slow. Then the next page is asked for early, and tests count requests."""
    monkeypatch.setattr(source, "SLOW_S", 3600.0)


@pytest.fixture(autouse=True, scope="session")
def _store(request):
    """Tests that look at files in the directory of the warehouse need a disk: they are left out elsewhere."""
    support.job.KIND = request.config.getoption("store")
    support.buckets.APART = support.job.KIND != "disk"


@pytest.fixture(autouse=True, scope="session")
def _cache_is_empty(tmp_path_factory):
    """What this user has read of buckets stays as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_collection_modifyitems(config, items):
    if config.getoption("store") != "disk":
        on_disk = pytest.mark.skip(reason="looks at files in the directory of the warehouse")
        for item in items:
            fixtures = [one.func for found in item._fixtureinfo.name2fixturedefs.values() for one in found]
            sources = [inspect.getsource(one) for one in (item.function, *fixtures) if inspect.isfunction(one)]
            if item.get_closest_marker("on_disk") or any('directory / "warehouse"' in text for text in sources):
                item.add_marker(on_disk)


@pytest.fixture(autouse=True)
def _buckets_are_empty():
    """After each test, unless jobs of several tests have their warehouses there."""
    yield
    for server in started() if support.job.KIND == "disk" else ():
        if server.requests:
            server.clear()


@pytest.fixture
def studio():
    """Two studios of 120 sessions, 20 on a page: 6 pages each and a little time."""
    with studio_of(World(sessions_per_studio=120)) as studio:
        yield studio


@pytest.fixture
def job(tmp_path, studio, monkeypatch):
    """A job against that studio; its credentials are in the environment."""
    return job_at(tmp_path / "job", studio).lend_credentials(monkeypatch)
