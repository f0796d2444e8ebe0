"""A warehouse without any table."""

from contextlib import nullcontext

import pytest
from support.buckets import moto_apart
from support.stores import KINDS, store_of

from etl.load.delta.tables import Tables
from etl.storage.disk import Disk


@pytest.fixture
def tables(tmp_path):
    """On a disk."""
    return Tables(Disk(tmp_path / "warehouse"))


@pytest.fixture(params=KINDS)
def anywhere(request, tmp_path):
    """In each store. `moto apart` is for tests that change the properties of a table: see `support.buckets`."""
    with moto_apart() if request.param == "moto apart" else nullcontext() as server:
        if server:
            server.make_bucket()
            yield Tables(server.store("warehouse"))
        else:
            yield Tables(store_of(request.param, tmp_path / "warehouse"))
