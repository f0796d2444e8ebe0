"""Faults at every put of a publication into a bucket, and seeded schedules of machines that share one."""

import os
import random
import signal

import pytest
from support.buckets import running
from support.job import EXPORTED, RUN, finished, job_at
from support.studios import listed_sessions, studio_of

from etl.emulator import World
from etl.observe.killpoints import VARIABLE

FAULTS = ("lost", "reset", "503", "409", "412")
EVERY = bool(os.environ.get("THOROUGH"))
PUTS = 60
"""More than a publication of the first night makes."""


@pytest.fixture
def server():
    server = running("moto")
    yield server
    server.faults.clear()
    server.fired.clear()


class NthPut:
    """A fault that happens to the n-th put below a prefix; `key` is of that put."""

    def __init__(self, does, number, prefix):
        self.does, self.number, self.prefix, self.key = does, number, prefix, None

    def __call__(self, method, key, _):
        if method != "PUT" or not key.startswith(self.prefix):
            return None
        self.number -= 1
        if self.number:
            return None
        self.key = key
        return self.does


def places():
    """Return (fault, number of the put) for every put, or a sample that has each fault and kind of put."""
    every = [(does, number) for does in FAULTS for number in range(1, PUTS + 1)]
    return every if EVERY else random.Random(7).sample(every, 6)


@pytest.fixture
def twins(studio, tmp_path, monkeypatch):
    """A job with its warehouse in a bucket, and one that has published the same on a disk."""
    disk = job_at(tmp_path / "disk", studio, kind="disk")
    assert disk.finish(*RUN) == 0, disk.log
    return job_at(tmp_path / "job", studio, kind="moto").lend_credentials(monkeypatch), disk


@pytest.mark.parametrize(("does", "number"), places())
def test_fault_42_48_49_83_at_every_put_of_a_publication(server, twins, does, number):
    """The job publishes all the same, or ends with 3 and the next one does: each row is there once."""
    job, disk = twins
    fault = NthPut(does, number, job.store.uri.split("/", 3)[3])
    server.faults.append(fault)
    exit_code = job.finish(*RUN)
    if fault.key is None:
        pytest.skip(f"a publication makes less than {number} puts")
    assert server.fired == [does]
    assert exit_code in {0, 2, 3}, job.log
    assert "Traceback" not in job.log
    assert exit_code == 0 or job.finish(*RUN) == 0, job.log
    assert [job.rows(table) for table in EXPORTED] == [disk.rows(table) for table in EXPORTED], fault.key
    assert job.problems() == []


SEEDS = range(200 if EVERY else 1)
STEPS = ("tables.noted", "table.synced:3", "table.committed:2", "table.committed:6", "tables.whole", "catalog.built")


@pytest.mark.parametrize("seed", SEEDS)
def test_fault_42_86_machines_that_share_a_bucket_lose_double_and_mix_nothing(server, tmp_path, monkeypatch, seed):
    """Two to eight of them export ranges of studios that overlap; some are killed, and their puts meet faults."""
    chance = random.Random(seed)
    world = World(studios=chance.randint(2, 6), sessions_per_studio=chance.randint(5, 60))
    with studio_of(world) as studio:
        machines = []
        for number in range(chance.randint(2, 8)):
            job = job_at(tmp_path / f"machine-{number}", studio, kind="moto")
            job.place = tmp_path / "shared"
            machines.append(job.lend_credentials(monkeypatch))
        prefix = machines[0].store.uri.split("/", 3)[3]
        for _ in range(chance.randint(0, 4)):
            server.faults.append(NthPut(chance.choice(FAULTS), chance.randint(1, 150), prefix))
        started = []
        for job in machines:
            flags = ["--studio-id", chance.choice(world.studio_ids)] if chance.random() < 0.7 else []
            killed = {VARIABLE: chance.choice(STEPS)} if chance.random() < 0.3 else {}
            started.append((job, flags, job.start(*RUN, *flags, **killed)))
        ended = [(job, flags, finished(process)) for job, flags, process in started]
        assert {code for *_, code in ended} <= {0, 3, -signal.SIGKILL}, "\n".join(job.log for job in machines)
        server.faults.clear()
        again = [(job, job.start(*RUN, *flags)) for job, flags, code in ended if code]
        assert [finished(process) for _, process in again] == [0] * len(again), "\n".join(job.log for job, _ in again)
        last = chance.choice(machines)
        assert last.finish(*RUN) == 0, last.log
    assert "Traceback" not in "".join(job.log for job in machines)
    expected = sorted((one["sessionId"],) for one in listed_sessions(world))
    assert last.ask("select session_id from streaming_sessions_history order by all") == expected
    assert last.ask(
        "select count(*) from (from streaming_session_changes qualify count(*) over (partition by slice_id,"
        " session_id) > 1)"
    ) == [(0,)]
    mixed = "select count(*) from (select slice_id from {} group by slice_id having count(distinct run_id) > 1)"
    for table in EXPORTED:
        assert last.ask(mixed.format(table)) == [(0,)], table
    assert last.problems() == []
