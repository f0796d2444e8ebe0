"""A warehouse without any table."""

import pytest

from etl.load.delta.tables import Tables


@pytest.fixture
def tables(tmp_path):
    return Tables(tmp_path / "warehouse")
