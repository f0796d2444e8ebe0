"""Several machines publish one night, each a part of its slices, and nobody coordinates them: `run --shard`."""

import datetime as dt
import signal
from collections import Counter

import pytest
from support.buckets import running
from support.job import DATE, RUN, finished, job_at, reading
from support.machines import ONE_WAREHOUSE
from support.studios import listed_sessions, studio_of

from etl.emulator import World
from etl.jobs.status import status
from etl.ledger.directory import ledger_paths
from etl.ledger.ledger import Ledger
from etl.load.delta.tables import Tables
from etl.model import CATALOG_NAME, Shard, Slice

DATASETS = "datasets: [studios, streaming_sessions, launch_profiles, launch_profile_members]"
PARENTS = {"ListStudios", "ListLaunchProfiles"}
STUDIOS = Slice("studios", World().account_id, "us-west-2")
"""The list of studios."""
VOLATILE = {
    "run_id", "extracted_at", "received_at", "request_id", "published_at", "publication", "observed_from",
    "observed_until", "seconds_left", "files",
}  # fmt: skip
"""Columns that differ between two runs that see the same."""
SUMS = "sum(slices), sum(slices_published), sum(pages), sum(records), sum(rows), sum(rejects), sum(duplicates)"


@pytest.fixture
def small_studios():
    """Five studios of 30 sessions, 20 on a page."""
    with studio_of(World(studios=5, sessions_per_studio=30)) as studio:
        yield studio


def shards_of(directory, studio, count, kind="disk", **configuration):
    """Return a job for each shard, on a machine of its own; their warehouse is one."""
    rest = "\n".join([configuration.pop("rest", ""), ONE_WAREHOUSE if kind == "disk" else ""])
    found = []
    for number in range(1, count + 1):
        job = job_at(directory / f"machine-{number}", studio, kind=kind, rest=rest, **configuration)
        job.place = directory / "warehouse"
        found.append(job)
    return found


def shard(number, count, *more):
    return (*RUN, "--shard", f"{number}/{count}", *more)


def shown(job):
    """Return the rows of every table, view and mart of the catalog, without what differs from run to run."""
    found = {}
    with reading(job.store) as connection:
        ask = connection.execute
        names = ask(
            "select schema_name || '.' || view_name from duckdb_views() where not internal"
            " union all select schema_name || '.' || table_name from duckdb_tables()"
        ).fetchall()
        for (name,) in names:
            columns = [column for column, *_ in ask(f"describe {name}").fetchall()]
            same = ", ".join(column for column in columns if column.removesuffix("_utc") not in VOLATILE)
            asked = SUMS if name == "main.etl_runs" else same
            found[name] = ask(f"select t::varchar from (select {asked} from {name}) as t order by all").fetchall()
    return found


def listings(studio, since=0):
    """Count how often each page was asked for."""
    asked = (one for one in studio.requests[since:] if (one.operation or "").startswith("List"))
    return Counter((one.operation, str(one.parameters), one.token) for one in asked)


def has_catalog(job):
    return job.store.exists(job.store.at(CATALOG_NAME))


@pytest.mark.parametrize("kind", ["disk", "moto"])
def test_fault_89_four_machines_complete_a_night_although_one_is_killed_and_run_again(kind, small_studios, tmp_path):
    """What readers see is what one run publishes. Nothing is asked twice but what tells which slices there are."""
    whole = job_at(tmp_path / "whole", small_studios, kind="disk", marts=kind != "disk", rest=DATASETS)
    assert whole.finish(*RUN) == 0, whole.log
    alone = listings(small_studios)
    since = len(small_studios.requests)
    rest = f"{DATASETS}\nrun: {{concurrency: 1}}"
    jobs = shards_of(tmp_path, small_studios, 4, kind, marts=kind != "disk", rest=rest)

    failpoints = [{}, {"NIMBLE_ETL_FAILPOINT": "page.stored:8"}, {}, {}]
    started = [
        job.start(*shard(number, 4), **failpoint)
        for number, (job, failpoint) in enumerate(zip(jobs, failpoints, strict=True), start=1)
    ]
    ends = [finished(process) for process in started]

    assert ends == [0, -signal.SIGKILL, 0, 0], "\n".join(job.log for job in jobs)
    assert not has_catalog(jobs[0]), "readers see no half night"
    assert all("is built when the last shard ends; not ended: " in jobs[one].log for one in (0, 2, 3))
    assert jobs[1].finish(*shard(2, 4)) == 0, jobs[1].log
    assert "is built when the last shard ends" not in jobs[1].log
    if kind != "disk":
        assert [key for method, key in running(kind).requests if method == "PUT" and key.endswith(CATALOG_NAME)] == [
            f"{jobs[0].store.uri.partition('a-bucket/')[2]}/{CATALOG_NAME}"
        ]

    assert shown(jobs[0]) == shown(whole)
    ended = jobs[0].ask("select shard, exit_code from etl_runs order by all")
    assert ended == [(f"{number}/4", 0) for number in range(1, 5)]
    assert [job.problems() for job in jobs] == [[]] * 4
    asked = listings(small_studios, since)
    assert asked.keys() == alone.keys()
    often = {one: count for one, count in asked.items() if one[0] not in PARENTS and count > 1}
    assert sum(often.values()) - len(often) <= 1, "the page that was under way when the job was killed"


def test_shard_that_owns_nothing_ends_too_and_the_last_one_builds_the_catalog(tmp_path, monkeypatch):
    with studio_of(World(studios=1, sessions_per_studio=5)) as studio:
        jobs = shards_of(tmp_path, studio, 4)
        slices = []
        for number, job in enumerate(jobs, start=1):
            job.lend_credentials(monkeypatch)
            assert not has_catalog(job)
            (outcome,) = job.run(shard=Shard(number, 4))
            assert outcome.exit_code == 0
            slices.append(outcome.report()["slices"])
        assert has_catalog(jobs[0])
        assert min(len(found) for found in slices) == 0
        assert sum(len(found) for found in slices) == 2
        assert jobs[0].ask("select count(*) from etl_slices") == [(2,)]
        assert jobs[0].ask("select count(*) from streaming_sessions") == [(5,)]


def test_shard_that_owns_nothing_of_datasets_without_parents_ends_too(tmp_path, monkeypatch, studio):
    """It plans no slice at all."""
    jobs = shards_of(tmp_path, studio, 2, rest="datasets: [studios]")
    for number, job in enumerate(jobs, start=1):
        job.lend_credentials(monkeypatch)
        assert [outcome.exit_code for outcome in job.run(shard=Shard(number, 2))] == [0]
    assert sorted(jobs[0].ask("select slices from etl_runs")) == [(0,), (1,)]
    assert len([request for request in studio.requests if request.operation == "ListStudios"]) == 1


def test_fault_89_only_all_shards_of_one_division_that_have_ended_build_the_catalog(
    small_studios, tmp_path, monkeypatch
):
    """Neither the same shard twice, nor one that is to be run again, nor one of another division counts."""
    first, second = shards_of(tmp_path, small_studios, 2)
    first.lend_credentials(monkeypatch)
    part, rest = sorted((Shard(1, 2), Shard(2, 2)), key=lambda one: one.owns(STUDIOS))
    for _ in range(2):
        assert first.run(shard=part)[-1].exit_code == 0
    assert not has_catalog(first)
    assert second.run(overrides={"max_items": 25}, shard=rest)[-1].exit_code == 3
    assert sorted(row["exit_code"] for row in Tables(first.store).rows("etl_runs", DATE, ["exit_code"])) == [0, 0, 3]
    assert not has_catalog(first), "the list of studios is published, and no session"
    assert first.run(shard=Shard(2, 3))[-1].exit_code == 0
    assert not has_catalog(first)

    assert second.run(shard=rest)[-1].exit_code == 0
    assert has_catalog(first)
    assert first.ask("select count(*) from streaming_sessions") == [(len(list(listed_sessions(small_studios.world))),)]

    seen = first.store.read(first.store.at(CATALOG_NAME))
    assert first.run(shard=part)[-1].exit_code == 0, "all have ended before: whoever runs again builds"
    assert first.store.read(first.store.at(CATALOG_NAME)) != seen


def test_readers_keep_the_night_before_until_the_last_shard_has_ended(small_studios, tmp_path, monkeypatch):
    jobs = shards_of(tmp_path, small_studios, 2)
    jobs[0].lend_credentials(monkeypatch)
    before = DATE - dt.timedelta(days=1)
    jobs[0].run(before)
    dates = "select distinct snapshot_date from streaming_sessions"
    jobs[0].run(shard=Shard(1, 2))
    assert jobs[0].ask(dates) == [(before,)]
    jobs[1].run(shard=Shard(2, 2))
    assert jobs[0].ask(dates) == [(DATE,)]


def test_listing_that_failed_in_one_shard_is_told_although_another_shard_owns_it(small_studios, tmp_path, monkeypatch):
    """Otherwise nobody could see why this shard has published nothing."""
    jobs = shards_of(tmp_path, small_studios, 2)
    jobs[0].lend_credentials(monkeypatch)
    other = next(number for number in (1, 2) if not Shard(number, 2).owns(STUDIOS))
    small_studios.set_faults(["access-denied:operation=ListStudios,times=ever"])
    (outcome,) = jobs[other - 1].run(shard=Shard(other, 2))
    assert outcome.exit_code == 1
    told = Tables(jobs[0].store).rows("etl_slices", DATE, ["state", "error"])
    ((state, error),) = [(row["state"], row["error"]) for row in told]
    assert state == "failed"
    assert "ListStudios" in error


def test_only_the_same_shard_goes_on_with_a_run_and_status_says_so(small_studios, tmp_path, monkeypatch):
    jobs = shards_of(tmp_path, small_studios, 2, rest="run: {concurrency: 1}")
    job = jobs[1].lend_credentials(monkeypatch)
    assert job.finish(*shard(2, 2), NIMBLE_ETL_FAILPOINT="page.stored:2") == -signal.SIGKILL
    (path,) = ledger_paths(job.directory / "state")
    assert {row["next"] for row in status(job.settings(), 1).unfinished} == {"run --shard 2/2 continues it"}
    for other in (Shard(1, 2), Shard(2, 3), Shard()):
        job.run(shard=other)
    assert len(ledger_paths(job.directory / "state")) == 4

    assert job.finish(*shard(2, 2)) == 0, job.log

    assert len(ledger_paths(job.directory / "state")) == 4
    assert f"{DATE}, shard 2/2: published; " in job.log
    with Ledger.open(path) as ledger:
        assert ledger.run().shard == Shard(2, 2)
    assert {row["shard"] for row in status(job.settings(), 9).runs} == {"2/2", "1/2", "2/3", None}


def test_status_of_a_first_night_says_which_shards_have_not_ended(small_studios, tmp_path, monkeypatch):
    jobs = shards_of(tmp_path, small_studios, 3)
    jobs[0].lend_credentials(monkeypatch).run(shard=Shard(2, 3))
    found = status(jobs[0].settings(), 1)
    assert found.losses == []
    assert found.notes == ["warehouse.duckdb is built when the last shard ends; not ended: 1/3, 3/3"]


def test_second_line_of_cron_does_nothing_for_a_shard_that_is_published(small_studios, tmp_path, monkeypatch):
    first, second = shards_of(tmp_path, small_studios, 2)
    first.lend_credentials(monkeypatch).run(shard=Shard(1, 2))
    asked = len(small_studios.requests)
    assert first.run(shard=Shard(1, 2), unless_published=True) == []
    assert len([one for one in small_studios.requests[asked:] if one.operation]) == 0
    assert len(second.run(shard=Shard(2, 2), unless_published=True)) == 1
    assert has_catalog(second)


def test_shards_hold_back_falls_and_lose_nothing_as_a_whole_night_does(small_studios, tmp_path, monkeypatch):
    """A slice of another shard has neither fallen nor vanished, and nothing of it is missing."""
    jobs = shards_of(tmp_path, small_studios, 2, marts=True)
    jobs[0].lend_credentials(monkeypatch)
    whole = job_at(tmp_path / "whole", small_studios, kind="disk", marts=True)
    nights = [DATE - dt.timedelta(days=1), DATE]
    for date in nights:
        whole.run(date)
        for number, job in enumerate(jobs, start=1):
            (outcome,) = job.run(date, shard=Shard(number, 2))
            assert outcome.exit_code == 0
            assert outcome.failed_checks == ()
    assert shown(jobs[0]) == shown(whole)
    assert jobs[0].ask("select count(*) from etl_checks where failures > 0") == [(0,)]
