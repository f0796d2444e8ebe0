"""A state directory and a warehouse that a former version has left: this one goes on with them.

tests/data/former.tar.gz was made by the version whose ledgers have format 2, from the embedded studio: two nights, and
a third that was killed after its fourth commit.
"""

import datetime as dt
import tarfile
from pathlib import Path

import pytest
from support.job import Job, connected

from etl.jobs.status import status
from etl.ledger.directory import ledger_paths
from etl.model import CATALOG_NAME

FORMER = Path(__file__).parents[1] / "data" / "former.tar.gz"
NIGHTS = [dt.date(2026, 11, day) for day in (18, 19, 20)]


@pytest.fixture
def job(tmp_path):
    """A job that goes on where the former version was killed."""
    with tarfile.open(FORMER) as archive:
        archive.extractall(tmp_path, filter="data")
    job = Job(
        tmp_path, "embedded", ("", ""), rest="emulator: {studios: 1, sessions_per_studio: 5}\n"
        "run: {keep_ledgers: 100000d, max_checkpoint_age: 100000d}",
    )  # fmt: skip
    assert len(ledger_paths(tmp_path / "state")) == 3
    return job


def rows_by_night(job):
    return job.ask("select snapshot_date, count(*) from streaming_sessions_history group by all order by all")


def test_the_killed_night_is_finished_and_the_next_ones_follow(job):
    assert job.finish("run", "--snapshot-date", "2026-11-20") == 0, job.log
    assert job.log.count("its publication is finished now") == 1
    assert len(ledger_paths(job.directory / "state")) == 3, "the killed run is gone on with"
    assert rows_by_night(job) == [(night, 5) for night in NIGHTS]
    assert job.problems() == []
    assert job.finish("status") == 0, job.log

    assert job.finish("run", "--snapshot-date", "2026-11-21") == 0, job.log
    assert rows_by_night(job) == [(night, 5) for night in (*NIGHTS, dt.date(2026, 11, 21))]
    assert job.problems() == []


def test_ledgers_and_runs_from_before_there_were_shards_are_of_whole_nights(job):
    assert {row["next"] for row in status(job.settings(), 9).unfinished} == {"run continues it"}
    assert job.finish("catalog") == 0, job.log
    assert [row["shard"] for row in status(job.settings(), 9).runs] == [None] * 3


def test_former_nights_are_replayed_and_old_ones_compacted_and_vacuumed(job):
    assert job.finish("compact") == 0, job.log
    before = job.exported_rows()
    assert job.finish("replay", "--since", "2026-11-18") == 3, "only `run` publishes the sessions of the killed night"
    assert job.finish("vacuum") == 0, job.log
    assert job.exported_rows() == before
    assert job.problems() == []
    with connected(job.directory / "warehouse" / CATALOG_NAME) as connection:
        found = connection.execute("select count(*) from etl_slices where publication > 0 and pages_sha256 is not null")
        assert found.fetchall() == [(5,)], "sessions of the killed night were not begun"
