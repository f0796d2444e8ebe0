"""Tables rebuilt from ledgers, without a request: fault 39, and what an operator may ask for."""

from pathlib import Path

import pytest
from support.damage import flip_byte
from support.job import DATE
from support.studios import LIST

from etl.errors import ConfigError, WarehouseError
from etl.jobs.replay import Selection, replay
from etl.ledger.directory import ledger_paths, remove_ledger
from etl.load.delta.tables import Tables
from etl.storage.disk import Disk

TABLES = ("studios", "streaming_sessions", "streaming_session_tags", "etl_slices", "etl_pages", "etl_runs")


@pytest.fixture
def published(job):
    """A date that two runs published: both studios, then one of them again."""
    job.run()
    studio_id = job.ask("select min(studio_id) from studios")[0][0]
    job.run(overrides={"studio_ids": [studio_id]})
    return {table: rows(job, table) for table in TABLES}


def rows(job, table):
    # When something was published last is what a replay changes.
    volatile = {"etl_slices": "published_at, publication", "etl_runs": "table_versions"}.get(table, "snapshot_date")
    return job.ask(f"select t::varchar from (select * exclude ({volatile}) from {table}) t order by all")


def damage(job, table, how):
    file, *_ = Tables(Disk(job.directory / "warehouse")).read(table).files[DATE]
    path = Path(file)
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        flip_byte(path, 40)


@pytest.mark.parametrize(
    ("table", "how"),
    [*((table, "truncated") for table in TABLES), ("streaming_sessions", "missing"), ("streaming_sessions", "flipped")],
)
def test_fault_39_verify_names_a_damaged_file_and_replay_restores_it(job, studio, published, table, how):
    damage(job, table, how)
    assert any(table in problem for problem in job.problems()), "the damage is noticed"
    asked = len(studio.requests)

    outcomes = replay(job.settings(), Selection(since=DATE))

    assert len(outcomes) == 2
    assert len(studio.requests) == asked
    assert job.problems() == []
    assert {name: rows(job, name) for name in TABLES} == published


@pytest.mark.usefixtures("published")
def test_fault_39_a_file_with_rows_of_ledgers_that_are_gone_stays_and_is_named(job):
    remove_ledger(ledger_paths(job.directory / "state")[0])
    damage(job, "streaming_sessions", "truncated")

    with pytest.raises(WarehouseError, match=r"streaming_sessions.*cannot be read"):
        replay(job.settings(), Selection(since=DATE))


@pytest.mark.usefixtures("published")
def test_each_slice_comes_from_the_run_that_published_it_last(job):
    before = job.ask("select studio_id, run_id, count(*) from streaming_sessions group by all order by all")
    oldest = job.ask("select min(run_id) from etl_runs")[0][0]

    replay(job.settings(), Selection(run_id=oldest))

    assert job.ask("select studio_id, run_id, count(*) from streaming_sessions group by all order by all") == before
    assert job.problems() == []


@pytest.mark.usefixtures("published")
def test_a_run_that_has_no_ledger_is_an_error_that_says_which_there_are(job):
    known = ledger_paths(job.directory / "state")[0].stem
    with pytest.raises(ConfigError, match=f"nothing-known.*{known}"):
        replay(job.settings(), Selection(run_id="nothing-known"))


def test_replay_writes_rejects_of_every_dataset_anew(job, studio):
    """All datasets share that table: with one number for all, only those of the first were."""
    studio.set_faults([f"bad-timestamp:{LIST},times=ever"])
    job.run()
    assert len(studio.fired) > 0
    owners = "select record ->> 'ownedBy' as owner from etl_rejects"
    before = job.ask(owners)
    assert all(owner for (owner,) in before)
    job.configure("privacy: {rules: {'*': {owned_by: drop}}}")

    replay(job.settings(), Selection(since=DATE))

    assert job.ask(owners) == [(None,)] * len(before)
    assert job.problems() == []
