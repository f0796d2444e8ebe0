"""Compacting and vacuuming change no row, and take no file away that somebody may still read."""

import datetime as dt
import os
import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from support.job import DATE, Job
from support.studios import LIST
from support.warehouse import write_into

from etl.jobs.upkeep import compact, show, vacuum
from etl.load.delta.tables import Tables
from etl.model import CATALOG_NAME
from etl.storage.disk import Disk


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
    assert job.problems() == []
    version = Tables(Disk(job.directory / "warehouse")).read("streaming_sessions").version
    compact(job.settings())
    assert Tables(Disk(job.directory / "warehouse")).read("streaming_sessions").version == version, (
        "nothing was left to do"
    )


@pytest.mark.usefixtures("published")
def test_vacuum_keeps_replaced_files_for_their_readers_until_the_grace_is_over(job):
    before = parquet_files(job)
    with duckdb.connect(job.directory / "warehouse" / CATALOG_NAME, read_only=True) as reader:
        seen = reader.execute("select count(*), max(page_number) from streaming_sessions").fetchall()
        compact(job.settings())

        assert of(vacuum(job.settings()), "streaming_sessions").removed == 0
        assert parquet_files(job) > before
        assert reader.execute("select count(*), max(page_number) from streaming_sessions").fetchall() == seen


def test_a_catalog_that_is_asked_for_takes_nothing_from_the_former_one(job):
    job = replace(job, marts=True)
    job.run()
    starts = "select count(*) from session_starts"
    there = job.ask(starts)
    write_into(job.directory / "warehouse" / CATALOG_NAME, "delete from session_starts")

    assert show(job.settings()) == ()

    assert job.ask(starts) == there != [(0,)]


def test_vacuum_removes_what_no_table_names_after_the_grace(job, published):
    orphan = next(iter(parquet_files(job))).with_name("20260101T000000Z-abcdef-left-by-a-killed-run.parquet")
    orphan.write_bytes(b"half a file")
    os.utime(orphan, (0, 0))
    young = orphan.with_name("young.parquet")
    young.write_bytes(b"of a run that is at work")
    job.configure("warehouse: {vacuum_grace: 1h}")

    assert of(vacuum(job.settings()), "streaming_sessions").removed == 1

    assert not orphan.exists()
    assert young.exists()
    assert job.rows("streaming_sessions") == published


def test_vacuum_without_grace_leaves_exactly_the_live_files(job, published):
    job.configure("warehouse: {vacuum_grace: 0s}")

    assert of(vacuum(job.settings()), "streaming_sessions").removed == 1

    live = Tables(Disk(job.directory / "warehouse")).read("streaming_sessions").files[DATE]
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


# Retention of daily partitions

KEPT = "warehouse: {keep_snapshots: 2d, vacuum_grace: 0s}"
VERSIONS = "select * exclude (run_id, tags), list_sort(map_entries(tags)) from streaming_sessions_versions order by all"


def days_ago(days):
    return dt.datetime.now(dt.UTC).date() - dt.timedelta(days=days)


def export(job, studio, *days):
    for each in days:
        studio.set_instant(dt.datetime.combine(days_ago(each), dt.time(2), dt.UTC))
        assert job.run(days_ago(each))[0].exit_code == 0


def forget_ledgers(job):
    for path in (job.directory / "state" / "runs").glob("*.sqlite*"):
        path.unlink()


def dates(job, table="streaming_sessions_history"):
    return [date for (date,) in job.ask(f"select distinct snapshot_date from {table} order by all")]


def history(job):
    return job.ask(f"select version::varchar from ({VERSIONS}) as version")


def test_old_daily_partitions_go_and_no_version_is_lost(job, studio):
    export(job, studio, 6, 5, 3, 1)
    before = history(job), job.rows("streaming_sessions"), job.ask("select count(*) from streaming_session_changes")
    job.configure(KEPT)
    vacuum(job.settings())
    assert dates(job) == [days_ago(6), days_ago(5), days_ago(3), days_ago(1)], "ledgers have them still"
    forget_ledgers(job)

    vacuum(job.settings())

    assert dates(job) == dates(job, "streaming_session_tags_history") == [days_ago(1)]
    files = (job.directory / "warehouse" / "streaming_sessions").glob("snapshot_date=*/*.parquet")
    assert {file.parent.name for file in files} == {f"snapshot_date={days_ago(1)}"}
    assert before == (
        history(job), job.rows("streaming_sessions"), job.ask("select count(*) from streaming_session_changes")
    )  # fmt: skip
    as_of = f"select count(*) from streaming_sessions_as_of(timestamptz '{days_ago(5)} 12:00:00Z')"
    assert job.ask(as_of) == job.ask(
        "select sum(rows)::bigint from etl_slices"
        f" where snapshot_date = '{days_ago(5)}' and dataset = 'streaming_sessions'"
    )
    export(job, studio, 0)
    assert not any(job.problems())


def test_the_newest_snapshot_of_a_studio_stays_however_old_it_is(job, studio):
    export(job, studio, 6, 5)
    before = job.rows("streaming_sessions")
    forget_ledgers(job)
    job.configure(KEPT)

    vacuum(job.settings())

    assert dates(job) == [days_ago(5)]
    assert job.rows("streaming_sessions") == before != []


def test_a_night_that_is_filled_in_later_is_compared_with_one_that_is_gone(job, studio, tmp_path):
    """As if nothing had gone: the change log says what that night was like."""
    export(job, studio, 6, 5, 3, 1)
    thinned = copied(job, tmp_path / "thinned")
    forget_ledgers(thinned)
    vacuum(thinned.settings())
    assert (len(dates(job)), dates(thinned)) == (4, [days_ago(1)])
    for filled_in in (4, 2):
        found = []
        for number, base in enumerate((job, thinned)):
            filled = copied(base, tmp_path / f"{filled_in}-{number}")
            export(filled, studio, filled_in)
            found.append(history(filled))
        assert found[0] == found[1] != []


def copied(job, directory):
    """Return a job that goes on where another one is, and keeps less."""
    copy = Job(directory, job.endpoint_url, job.credentials, rest=KEPT)
    for each in ("state", "warehouse"):
        shutil.copytree(job.directory / each, directory / each)
    return copy


def test_a_studio_that_has_become_empty_vanishes_from_the_log_although_it_has_no_files(job, studio):
    export(job, studio, 2)
    studio.set_faults([f"empty-list:{LIST},times=ever"])
    (outcome,) = job.run(days_ago(1), allow_fall=True)
    assert outcome.exit_code == 0
    vanished = "select count(*) filter (where change = 'vanished'), count(*) from streaming_session_changes"
    gone, all_changes = job.ask(vanished)[0]
    assert gone == all_changes / 2 > 100
    assert job.ask("select count(*) from streaming_sessions_versions where is_current") == [(0,)]
