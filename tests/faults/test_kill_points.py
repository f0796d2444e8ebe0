"""SIGKILL at every named step, and again at every step of the recovery."""

import signal

import pytest
from support.job import RUN, job_at

from etl.events import STEPS

# What a step proves; by catalogue number.
FAULTS = {
    "page.received": 29,
    "page.stored": 30,
    "slice.walked": 31,
    "table.committed": 33,
    "table.durable": 33,
    "catalog.built": 34,
    "catalog.swapped": 34,
}


def killed_at(job, step, time=1):
    return job.finish(*RUN, NIMBLE_ETL_FAILPOINT=f"{step}:{time}") == -signal.SIGKILL


@pytest.mark.parametrize("step", STEPS)
def test_fault_29_to_35_killed_at_a_step_and_again_at_a_later_one_the_rerun_is_whole(
    step, small_studio, expected, tmp_path
):
    job = job_at(tmp_path, small_studio)
    assert killed_at(job, step), "the step was reached"
    # The recovery is killed at the same step if it gets there, and further on (fault 35).
    killed_at(job, step)
    killed_at(job, "table.committed")
    killed_at(job, "catalog.built")

    assert job.finish(*RUN) == 0, job.log
    assert job.exported_rows() == expected
    assert job.problems() == []


@pytest.mark.parametrize("step", ["publication.planned", "catalog.built"])
def test_fault_31_after_the_last_page_it_publishes_without_any_request(step, small_studio, expected, tmp_path):
    job = job_at(tmp_path, small_studio, source="  account_id: '123456789012'")
    assert killed_at(job, step)
    asked = len(small_studio.requests)

    assert job.finish(*RUN) == 0
    assert len(small_studio.requests) == asked
    assert job.exported_rows() == expected


@pytest.mark.parametrize("time", range(1, 10))
def test_fault_32_33_killed_after_any_commit_there_is_no_second_copy(time, small_studio, expected, tmp_path):
    """Nine tables are committed in a night; readers of the catalog see the old night or the new."""
    job = job_at(tmp_path, small_studio)
    assert killed_at(job, "table.committed", time)
    catalog = job.directory / "warehouse" / "warehouse.duckdb"
    assert not catalog.exists(), "nothing half is shown"

    assert job.finish(*RUN) == 0
    assert job.exported_rows() == expected
