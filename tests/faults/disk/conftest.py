"""A disk under the shim, and nights on it; made once per worker."""

import datetime as dt
import sys

import pytest
from support.disk import Disk, compiled_shim
from support.job import NIGHT
from support.nights import Nights
from support.studios import studio_of

from etl.emulator import World


def pytest_collection_modifyitems(items):
    if sys.platform != "linux":
        for item in items:
            item.add_marker(
                pytest.mark.skip(reason="only Linux lets a library be preloaded in front of libc like this")
            )


@pytest.fixture(scope="session")
def disk(pytestconfig, tmp_path_factory):
    shim = compiled_shim(pytestconfig.cache.mkdir("disk"))
    with Disk(shim, tmp_path_factory.mktemp("disk")) as disk:
        yield disk


@pytest.fixture(scope="session")
def studios():
    """One studio of 40 sessions, 20 on a page, as it is in two nights."""
    world = World(studios=1, sessions_per_studio=40)
    with (
        studio_of(world) as first,
        studio_of(world, at=NIGHT + dt.timedelta(days=1)) as second,
    ):
        yield first, second


@pytest.fixture(scope="session")
def nights(disk, studios, tmp_path_factory):
    """The second night, over the first."""
    return Nights.spend(disk, tmp_path_factory.mktemp("nights"), *studios)


@pytest.fixture(scope="session")
def first_night(disk, studios, tmp_path_factory):
    """The first night, on a disk that holds the configuration only."""
    return Nights.spend(disk, tmp_path_factory.mktemp("first_night"), studios[0])
