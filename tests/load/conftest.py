"""A warehouse without any table."""

import pytest

from etl.load.tables import Tables


@pytest.fixture
def tables(tmp_path):
    return Tables(tmp_path / "warehouse")
