"""Compacting and vacuuming change no row, and take no file away that somebody may still read."""

import datetime as dt
import os
from pathlib import Path

import duckdb
import pytest
from support.job import DATE

from etl.load.catalog import FILE_NAME
from etl.load.tables import Tables
from etl.maintenance import compact, vacuum
from etl.verify import verify


@pytest.fixture
def published(job):
    """Two data files: rows of one studio were replaced, those of the other carried over."""
    job.run()
    job.run(overrides={"studio_ids": [job.ask("select min(studio_id) from studios")[0][0]]})
    return job.rows("streaming_sessions")


def parquet_files(job):
    return set((job.directory / "warehouse" / "streaming_sessions").glob("snapshot_date=*/*.parquet"))


def of(done, table):
    return next(upkeep for upkeep in done if upkeep.table == table)


def test_compact_makes_one_file_of_a_date_and_changes_no_row(job, published):
    done = of(compact(job.settings()), "streaming_sessions")

    assert (done.files_before, done.files) == (2, 1)
    assert job.rows("streaming_sessions") == published
    assert [finding.problem for finding in verify(job.settings()) if finding.problem] == []
    version = Tables(job.directory / "warehouse").read("streaming_sessions").version
    compact(job.settings())
    assert Tables(job.directory / "warehouse").read("streaming_sessions").version == version, "nothing was left to do"


@pytest.mark.usefixtures("published")
def test_vacuum_keeps_replaced_files_for_their_readers_until_the_grace_is_over(job):
    before = parquet_files(job)
    with duckdb.connect(job.directory / "warehouse" / FILE_NAME, read_only=True) as reader:
        seen = reader.execute("select count(*), max(page_number) from streaming_sessions").fetchall()
        compact(job.settings())

        assert of(vacuum(job.settings()), "streaming_sessions").removed == 0
        assert parquet_files(job) > before
        assert reader.execute("select count(*), max(page_number) from streaming_sessions").fetchall() == seen


def test_vacuum_removes_what_no_table_names_after_the_grace(job, published):
    orphan = next(iter(parquet_files(job))).with_name("20260101T000000Z-abcdef-left-by-a-killed-run.parquet")
    orphan.write_bytes(b"half a file")
    os.utime(orphan, (0, 0))
    young = orphan.with_name("young.parquet")
    young.write_bytes(b"of a run that is at work")
    job.config.write_text(f"{job.config.read_text()}\nwarehouse: {{vacuum_grace: 1h}}\n")

    assert of(vacuum(job.settings()), "streaming_sessions").removed == 1

    assert not orphan.exists()
    assert young.exists()
    assert job.rows("streaming_sessions") == published


def test_vacuum_without_grace_leaves_exactly_the_live_files(job, published):
    job.config.write_text(f"{job.config.read_text()}\nwarehouse: {{vacuum_grace: 0s}}\n")

    assert of(vacuum(job.settings()), "streaming_sessions").removed == 1

    live = Tables(job.directory / "warehouse").read("streaming_sessions").files[DATE]
    assert parquet_files(job) == set(map(Path, live))
    assert job.rows("streaming_sessions") == published
    assert job.run(DATE + dt.timedelta(days=1))[0].exit_code == 0


def test_old_ledgers_are_deleted_and_younger_ones_stay(job):
    job.run()
    (young,) = (job.directory / "state" / "runs").glob("*.sqlite")
    old = young.with_name("20260101T000000Z-abcdef.sqlite")
    old.write_bytes(young.read_bytes())
    foreign = young.with_name("keep-this.sqlite")
    foreign.write_bytes(young.read_bytes())

    assert job.run()[0].exit_code == 0

    assert not old.exists()
    assert young.exists()
    assert foreign.exists()
