"""A ledger with two slices."""

import pytest
from support.ledgers import A, B
from support.shapes import DATE, dataset, operation

from etl.ledger.ledger import Ledger


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state/runs/20261120T020000Z-abcdef.sqlite"


@pytest.fixture
def ledger(path):
    with Ledger.create(path, path.stem, DATE, "request") as ledger:
        ledger.add_dataset(dataset(), operation(), published=True)
        ledger.add_slice(A)
        ledger.add_slice(B)
        yield ledger
