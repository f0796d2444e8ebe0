"""What fills a warehouse is written down once, whatever happens to the put of the log entry."""

import pytest
from support.stores import KINDS, as_another_process, server_of, store_of
from support.warehouse import publish

from etl.errors import CommitConflictError, CommitUnknownError
from etl.load.delta.sources import Filler, fillers, note_fillers
from etl.load.delta.tables import Tables

ONE, OTHER = Filler("AWS", "111111111111"), Filler("AWS", "222222222222")


def warehouse(kind, directory):
    """Return the tables of a warehouse that has a run."""
    tables = Tables(store_of(kind, directory))
    publish(tables, {"a": [1]}, table="etl_runs")
    return tables


@pytest.mark.parametrize("kind", KINDS)
def test_what_fills_a_warehouse_is_known_to_all_and_noted_once(kind, tmp_path):
    tables = warehouse(kind, tmp_path)
    for given in ([ONE], [ONE], [ONE, OTHER]):
        note_fillers(tables, given)
    assert fillers(Tables(as_another_process(tables.store))) == {ONE, OTHER}
    assert tables.versions() == {"etl_runs": 3}


@pytest.mark.parametrize("does", ["lost", "409", "412", "reset"])
def test_fault_42_48_put_that_is_refused_or_whose_answer_is_lost_is_made_again(does, tmp_path):
    tables = warehouse("moto", tmp_path)
    server, left = server_of(tables.store), [does]
    server.faults.append(lambda method, key, _: left.pop() if left and method == "PUT" and "etl_runs" in key else None)
    note_fillers(tables, [ONE])
    assert server.fired == [does]
    assert fillers(Tables(as_another_process(tables.store))) == {ONE}
    assert tables.versions() == {"etl_runs": 2}


@pytest.mark.parametrize(("does", "error"), [("412", CommitConflictError), ("503", CommitUnknownError)])
def test_fault_42_48_put_that_is_refused_each_time_ends_the_job_for_now(does, error, tmp_path):
    tables = warehouse("moto", tmp_path)
    server = server_of(tables.store)
    server.faults.append(lambda method, key, _: does if method == "PUT" and "etl_runs" in key else None)
    with pytest.raises(error, match=r"etl_runs: .*run again"):
        note_fillers(tables, [ONE])
    server.faults.clear()
    assert fillers(Tables(as_another_process(tables.store))) == frozenset()
