"""A whole warehouse in a bucket: nights, upkeep and recovery as on a disk, by jobs that are killed, sleep and race."""

import datetime as dt
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.buckets import KEY, running
from support.job import DATE, EXPORTED, RUN, finished, job_at
from support.stores import KINDS, THOROUGH, files_of, overwrite
from support.studios import listed_sessions, studio_of

from etl.emulator import World
from etl.load.catalog.packs import list_packs
from etl.load.delta.tables import Tables
from etl.model import CATALOG_NAME

STORES = KINDS[1:]
BEFORE = DATE - dt.timedelta(days=1)
STEPS = (
    "tables.noted", "table.staged", "table.synced:2", "table.committed", "table.committed:3", "snapshot.read_back",
    "facts.published", "tables.whole", "catalog.built", "catalog.swapped", "run.closed",
)  # fmt: skip
SOME_STEPS = STEPS if THOROUGH else ("table.synced:2", "table.committed:3", "catalog.built")
"""On a disk, all of them are tried by `tests.faults.test_kill_points`."""

SLEEPS = """
import os
import signal
import etl.load.delta.commit
import support.job
from deltalake import DeltaTable

reach, commit, seen = etl.load.delta.commit.reach, DeltaTable.create_write_transaction, []

def sleep_at(step):
    seen.append(step)
    if seen.count(step) == 2 and step == where:
        os.kill(os.getpid(), signal.SIGSTOP)

def reaching(step):
    sleep_at(step)
    reach(step)

def committing(*arguments, **options):
    sleep_at("committing")
    commit(*arguments, **options)

etl.load.delta.commit.reach = reaching
DeltaTable.create_write_transaction = committing
support.job._child(arguments, environment, log)
"""
"""A program for `Job.start_program`: it stands still when it has read its second table and is about to commit to it.

That is before it asks whether it still holds the lock (`where` is "table.synced"), or after that ("committing").
"""


@pytest.fixture(params=STORES)
def cloudy(request, tmp_path, studio, monkeypatch):
    """Return a function that makes a job of another machine with the same warehouse."""

    def machine(name="job", **configuration):
        job = job_at(tmp_path / name, studio, kind=request.param, **configuration)
        job.place = tmp_path / "shared"
        return job.lend_credentials(monkeypatch)

    return machine


def plain(job, tables=EXPORTED):
    """Return all rows of a warehouse, without what differs between two runs."""
    return [job.rows(table) for table in tables]


def test_nights_history_and_upkeep_are_those_of_a_disk(cloudy, studio, tmp_path):
    """Two nights, the second with another studio's clock; compact, vacuum, verify, forget."""
    cloud, disk = cloudy(), job_at(tmp_path / "disk", studio, kind="disk")
    owner = None
    for job in (cloud, disk):
        for date in (BEFORE, DATE):
            assert job.finish("run", "--snapshot-date", date.isoformat()) == 0, job.log
        assert job.finish("compact") == 0, job.log
        assert job.finish("vacuum", "--now") == 0, job.log
        assert job.finish("verify") == 0, job.log
        ((owner,),) = job.ask("select min(owned_by) from streaming_sessions")
        assert job.finish("forget", "--where", f"owned_by={owner}", "--yes") == 0, job.log
        assert job.finish("replay", "--since", BEFORE.isoformat()) == 0, job.log
        assert job.finish("status") == 0, job.log
    assert plain(cloud) == plain(disk)
    changes = "select t::varchar from (select * exclude (run_id) from streaming_session_changes) t order by all"
    assert cloud.ask(changes) == disk.ask(changes)
    assert cloud.ask("select count(*) from streaming_sessions where owned_by = $owner", owner=owner) == [(0,)]
    assert cloud.problems() == []


@pytest.mark.skipif(not THOROUGH, reason="nine nights; `make faults` has them, and tests/load/catalog has their packs")
def test_packs_of_a_past_month_are_made_proven_and_removed(cloudy):
    """As on a disk: readers see no difference, and `verify` finds one that another program has overwritten."""
    job, shown = cloudy(), []
    month = [dt.date(2026, 10, day) for day in range(1, 9)]
    for date in (*month, DATE):
        assert job.finish("run", "--snapshot-date", date.isoformat()) == 0, job.log
        shown.append(plain(job))
    packs = [file for file in list_packs(job.store) if file.endswith(".parquet")]
    assert {file.split("/")[-2] for file in packs} >= {*(table.removesuffix("_history") for table in EXPORTED)}
    ((view,),) = job.ask("select sql from duckdb_views() where view_name = 'streaming_sessions_history'")
    assert view.count(".parquet") == 2
    assert len(plain(job)[1]) == len(shown[0][1]) * 9
    assert job.problems() == []

    harmed, *_ = packs
    content = job.store.read(harmed)
    overwrite(job.store, harmed, bytes(len(content)))
    (problem,) = job.problems()
    assert problem == f"{harmed}: it is not what was written; remove it: the next catalog makes it again"
    overwrite(job.store, harmed, None)
    assert job.finish("catalog") == 0, job.log
    assert job.store.read(harmed) == content

    assert job.finish("compact") == 0, job.log
    assert job.finish("run", "--fresh", "--snapshot-date", month[3].isoformat()) == 0, job.log
    former = {*packs} & {*list_packs(job.store)}
    assert former == {*packs}, "readers of the catalog before may use them"
    assert job.finish("vacuum", "--now") == 0, job.log
    assert not {*list_packs(job.store)} & {file for file in packs if "/etl_" in file}
    assert len(plain(job)[1]) == len(shown[0][1]) * 9
    assert job.problems() == []


@pytest.mark.parametrize("step", SOME_STEPS)
def test_fault_86_job_that_is_killed_at_any_step_is_finished_by_the_next(cloudy, studio, tmp_path, step):
    cloud, disk = cloudy(), job_at(tmp_path / "disk", studio, kind="disk")
    assert disk.finish(*RUN) == 0

    assert cloud.finish(*RUN, NIMBLE_ETL_FAILPOINT=step) == -signal.SIGKILL, cloud.log
    assert cloud.finish(*RUN) == 0, cloud.log

    assert plain(cloud) == plain(disk)
    assert cloud.problems() == []


def test_fault_86_publication_of_a_machine_that_died_is_put_back_by_another(cloudy):
    first, second = cloudy("first"), cloudy("second")
    assert first.finish("run", "--snapshot-date", BEFORE.isoformat()) == 0, first.log
    before = plain(first)
    assert first.finish(*RUN, NIMBLE_ETL_FAILPOINT="table.committed:3") == -signal.SIGKILL

    assert second.finish("catalog") == 0, second.log

    assert "is dead or stands still; its lock is taken over" in second.log
    assert "the tables are put back" in second.log
    assert plain(second) == before
    assert first.finish(*RUN) == 0, first.log
    assert first.problems() == []


WAKES_UP = [("table.synced", RUN), ("committing", ("catalog",)), ("committing", RUN), ("table.synced", ("catalog",))]


@pytest.mark.parametrize(("where", "others"), WAKES_UP if THOROUGH else WAKES_UP[:2])
def test_fault_87_job_that_stood_still_commits_nothing_when_it_wakes_up(cloudy, where, others):
    """It is stopped between reading a table and committing to it, and the lock is taken over meanwhile."""
    sleeper, other = cloudy("sleeper"), cloudy("other")
    assert other.finish("run", "--snapshot-date", BEFORE.isoformat()) == 0, other.log
    asleep = sleeper.start_program(SLEEPS, *RUN, names={"where": where})
    _wait_until(lambda: _state(asleep.pid) == "T")

    assert other.finish(*others) == 0, other.log
    assert "its lock is taken over" in other.log
    published = plain(other), Tables(other.store).versions()
    os.kill(asleep.pid, signal.SIGCONT)

    assert finished(asleep) == 3, sleeper.log
    assert "another job has taken the lock, because this one stood still" in sleeper.log
    assert "Traceback" not in sleeper.log
    assert (plain(other), Tables(other.store).versions()) == published
    assert other.problems() == []
    assert sleeper.finish(*RUN) == 0, sleeper.log


def _state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _wait_until(holds, seconds=60):
    """Return when something holds that another process does."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        threading.Event().wait(0.01)


@pytest.mark.parametrize("kind", STORES)
def test_fault_42_eight_machines_publish_eight_ranges_of_a_date_at_once(kind, tmp_path, monkeypatch):
    """All land at the first try, and no row of others is written again."""
    world = World(studios=8, sessions_per_studio=40)
    with studio_of(world) as studio:
        jobs = []
        for number in range(8):
            job = job_at(tmp_path / f"machine-{number}", studio, kind=kind)
            job.place = tmp_path / "shared"
            jobs.append(job.lend_credentials(monkeypatch))
        ids = world.studio_ids
        started = [job.start(*RUN, "--studio-id", id_) for job, id_ in zip(jobs, ids, strict=True)]
        assert [finished(process) for process in started] == [0] * 8, "\n".join(job.log for job in jobs)
    ((rows, studios),) = jobs[0].ask("select count(*), count(distinct studio_id) from streaming_sessions")
    assert (rows, studios) == (len(list(listed_sessions(world))), 8)
    for table in ("streaming_sessions", "streaming_session_tags", "streaming_session_changes"):
        named = Tables(jobs[0].store).files(table, DATE)
        assert len(named) == 8, table
        directory = files_of(jobs[0].store, tmp_path / "mirror")
        for file in named:
            rows = pq.ParquetFile(directory / file.removeprefix(f"{jobs[0].store.uri}/")).read(columns=["run_id"])
            assert set(rows["run_id"].to_pylist()) == {file.rpartition("/")[2].rpartition("-")[0]}, table


def test_fault_42_four_machines_publish_the_same_slices_and_each_row_is_there_once(cloudy, studio):
    machines = [cloudy(f"machine-{number}") for number in range(4)]
    started = [machine.start(*RUN) for machine in machines]
    assert [finished(process) for process in started] == [0] * 4, "\n".join(machine.log for machine in machines)
    ((rows, keys, runs),) = machines[0].ask(
        "select count(*), count(distinct session_id), count(distinct run_id) from streaming_sessions_history"
    )
    listed = len(list(listed_sessions(studio.world)))
    assert (rows, keys, runs) == (listed, listed, 1)
    assert machines[3].problems() == []


def test_warehouse_in_a_bucket_is_asked_without_writing(cloudy, studio):
    job = cloudy()
    assert job.finish(*RUN) == 0, job.log
    running(job.kind).requests.clear()
    assert job.finish("sql", "select count(*) from streaming_sessions") == 0, job.log
    assert f"count_star()\n{len(list(listed_sessions(studio.world))):12}" in job.log
    assert {method for method, _ in running(job.kind).requests} <= {"GET", "HEAD"}
    copying = ("sql", f"copy (select 1) to '{job.store.uri}/evil.parquet'")
    assert job.finish(*copying) == 2, job.log
    assert not job.store.exists(job.store.at("evil.parquet"))


HTTPFS = Path(__file__).parents[2] / ".venv-duckdb" / "1.5.5"
READ = """
import pathlib, sys
import duckdb, duckdb_extension_httpfs

catalog, endpoint, key, secret = sys.argv[1:]
extension, = pathlib.Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension")
connection = duckdb.connect(catalog, read_only=True)
connection.execute(f"load '{extension}'")
connection.execute(
    f"create secret (type s3, key_id '{key}', secret '{secret}', region 'us-east-1', endpoint '{endpoint}',"
    " url_style 'path', use_ssl false)"
)
print(connection.execute("select count(*), count(distinct session_id) from streaming_sessions_history").fetchall())
"""


@pytest.mark.skipif(not HTTPFS.exists(), reason="no wheel of DuckDB 1.5.5 for this Python")
def test_downloaded_catalog_is_read_by_duckdb_1_5_with_httpfs(cloudy, studio, tmp_path):
    job = cloudy()
    assert job.finish(*RUN) == 0, job.log
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(job.store.read(job.store.at(CATALOG_NAME)))
    command = [sys.executable, "-c", READ, copy, running(job.kind).url.removeprefix("http://"), *KEY]
    environment = {**os.environ, "PYTHONPATH": str(HTTPFS)}
    read = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    listed = len(list(listed_sessions(studio.world)))
    assert read.stdout == f"[({listed}, {listed})]\n", read.stderr


@pytest.mark.on_disk
@pytest.mark.parametrize("studios", [2, 60])
def test_night_makes_few_objects_and_requests_besides_its_data(studios, tmp_path, monkeypatch):
    """However many slices it has: seven tables get an entry and a data file; the catalog and the lock are replaced.

    A new warehouse costs some more: each table is made.
    """
    with studio_of(World(studios=studios, sessions_per_studio=3)) as studio:
        job = job_at(tmp_path / "job", studio, kind="moto").lend_credentials(monkeypatch)
        nights = []
        for days in (2, 1, 0):
            running("moto").requests.clear()
            date = (DATE - dt.timedelta(days=days)).isoformat()
            assert job.finish("run", "--snapshot-date", date, NIMBLE_ETL_WAREHOUSE__S3__LEASE="1m") == 0, job.log
            nights.append([*running("moto").requests])
    for asked in nights:
        made = {key for method, key in asked if method == "PUT" and ".probe/" not in key}
        assert len([key for key in made if key.endswith(".parquet")]) <= 10
    *_, asked = nights
    made = {key for method, key in asked if method == "PUT" and ".probe/" not in key}
    assert len([key for key in made if not key.endswith(".parquet")]) == 9
    for asked, most in zip(nights, (62, 40, 40), strict=True):
        assert len([key for _, key in asked if not key.endswith(".parquet")]) <= most
        assert [key for method, key in asked if method == "HEAD" and key.endswith(".parquet")] == []
