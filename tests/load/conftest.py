"""A warehouse without any table."""

import pytest
from support.stores import KINDS, store_of

from etl.load.delta.tables import Tables
from etl.storage.disk import Disk


@pytest.fixture
def tables(tmp_path):
    """On a disk."""
    return Tables(Disk(tmp_path / "warehouse"))


@pytest.fixture(params=KINDS)
def anywhere(request, tmp_path):
    """In each store."""
    return Tables(store_of(request.param, tmp_path / "warehouse"))
