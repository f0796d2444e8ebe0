"""Spark's Python workers, its executors and the driver are killed at seeded moments: each row once, one commit.

`make spark` tries all seeds; SEEDS=3 in the environment tries as many.
"""

import os
import random
import signal
from pathlib import Path

import pytest
from support.alike import everything
from support.engines import ROOT, started
from support.job import NIGHT, RUN, job_at
from support.studios import asked_for_sessions, studio_of
from support.thorough import THOROUGH

from etl.emulator import World

WORLD = World(studios=6, sessions_per_studio=80)
CLUSTER = "spark", "local-cluster[2,1,1024]"
SEGMENT = 4
CONCURRENCY = 4
ENGINE = f"run: {{concurrency: {CONCURRENCY}}}\nengine: {{kind: spark, tasks: 6, segment_pages: {SEGMENT}}}"
TASKS_LOST = {"worker": 1, "executor": 1, "driver": 2}
"""How many tasks are lost at once, at most: the driver loses both executors."""
AFTER = ("publication.planned", "table.committed:3", "facts.published", "tables.whole", "catalog.swapped")
_IS_THERE = THOROUGH and (ROOT / ".venv-spark" / "run").exists()
pytestmark = pytest.mark.skipif(not _IS_THERE, reason="`make spark` kills a real Spark")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    with studio_of(WORLD, page_size=5) as studio:
        job = job_at(tmp_path_factory.mktemp("threads"), studio)
        assert job.finish(*RUN) == 0
        return everything(job)


@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEDS", "50"))))
def test_fault_90_91_each_row_is_there_once_whoever_is_killed(seed, expected, tmp_path):
    chance = random.Random(seed)
    with studio_of(WORLD, page_size=5) as studio:
        job = job_at(tmp_path / "job", studio, rest=ENGINE)
        kills = []
        if chance.random() < 0.3:
            program = started(CLUSTER, job, NIGHT, NIMBLE_ETL_FAILPOINT=chance.choice(AFTER))
            told = program.communicate()[1]
            assert program.returncode == -signal.SIGKILL, told
            kills.append("driver")
            end(program)
        for _ in range(4):
            target, at = chance.choice([*TASKS_LOST]), len(asked_for_sessions(studio)) + chance.randrange(2, 60)
            with started(CLUSTER, job, NIGHT) as program:
                while program.poll() is None and not (len(asked_for_sessions(studio)) >= at and kill(program, target)):
                    pass
                if program.poll() is None:
                    kills.append(target)
                told = program.communicate()[1]
                end(program)
            if program.returncode == 0:
                break
            assert program.returncode in {-signal.SIGKILL, 3}, told
        else:
            pytest.fail(f"four nights were not enough: {kills}")

        assert everything(job) == expected, kills
        assert commits(job) == 1
        asked = asked_for_sessions(studio)
        again = len(asked) - (len(set(asked)) + len(WORLD.studio_ids) - 1)
        assert again <= sum(TASKS_LOST[target] * (SEGMENT + 2 * CONCURRENCY) for target in kills), kills
        assert job.problems() == []


def commits(job):
    """Return how many commits have added sessions."""
    log = Path(job.store.at("streaming_sessions", "_delta_log"))
    return sum('"add"' in entry.read_text() for entry in log.glob("*.json"))


def kill(program, target):
    """Kill a process of the night; tell whether there was one."""
    found = {"driver": [program.pid], "executor": [], "worker": []}
    for pid, parent, command in family(program.pid):
        if "CoarseGrainedExecutorBackend" in command:
            found["executor"].append(pid)
        elif "pyspark.daemon" in command and "pyspark.daemon" in parent:
            found["worker"].append(pid)
    for pid in found[target][:1]:
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def family(group):
    """Yield the id, the command of the parent, and the command of each process of a session."""
    commands, parents = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(stat[3]) == group:
                    commands[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
                    parents[int(entry.name)] = int(stat[1])
            except OSError:  # it has ended
                continue
    for pid, command in commands.items():
        yield pid, commands.get(parents[pid], ""), command


def end(program):
    """End what a killed driver has left."""
    for pid, _, _ in list(family(program.pid)):
        os.kill(pid, signal.SIGKILL)
