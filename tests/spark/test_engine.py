"""A night whose slices Spark walks is the night of one process, although workers are killed.

`make test` asks Sail; `make spark` also a real Spark, of which workers and executors are killed.
"""

import subprocess

import pytest
from support.alike import NEXT, everything, two_nights_of_threads
from support.engines import ROOT, started
from support.job import NIGHT, job_at
from support.studios import asked_for_sessions, studio_of
from support.thorough import THOROUGH

from etl.emulator import World

WORLD = World(studios=5, sessions_per_studio=60)
ENGINE = "engine: {kind: spark, tasks: 4, segment_pages: 3}"
_IS_THERE = THOROUGH and (ROOT / ".venv-spark" / "run").exists()
_SPARK = pytest.mark.skipif(not _IS_THERE, reason="`make spark` asks a real Spark too")
SPARKS = [
    pytest.param(kind, marks=_SPARK, id=" ".join(kind))
    for kind in (("spark", "local[2,8]"), ("spark", "local-cluster[2,1,1024]"), ("spark35", "local[2,8]"))
]
SAIL = "sail", "sail"


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return two_nights_of_threads(WORLD, tmp_path_factory.mktemp("threads"))


def on(kind, job, at, **environment):
    """Run a night of a job on an engine to its end; return how the program ended."""
    with started(kind, job, at, **environment) as program:
        _, told = program.communicate()
    return subprocess.CompletedProcess(program.args, program.returncode, stderr=told)


@pytest.mark.parametrize("kind", [pytest.param(SAIL, id="sail"), *SPARKS])
def test_two_nights_on_spark_are_those_of_threads(kind, expected, tmp_path):
    for number, at in enumerate((NIGHT, NEXT)):
        with studio_of(WORLD, at=at, page_size=5) as studio:
            job = job_at(tmp_path / "job", studio, rest=ENGINE)
            ended = on(kind, job, at)
            assert ended.returncode == 0, ended.stderr
            assert everything(job) == expected[number]
            asked = asked_for_sessions(studio)
            assert len(asked) == len(set(asked)) + 4, "no page twice; the first page of each studio has no token"
    assert job.problems() == []
    assert job.store.listed(job.store.at("_tasks")) == {}


@pytest.mark.parametrize("kind", SPARKS)
def test_fault_90_python_workers_of_spark_that_are_killed_cost_a_segment_each(kind, expected, tmp_path):
    with studio_of(WORLD, page_size=5) as studio:
        job = job_at(tmp_path / "job", studio, rest=ENGINE)
        ended = on(kind, job, NIGHT, NIMBLE_ETL_WORKER_FAILPOINT="page.stored:10")
        assert ended.returncode == 0, ended.stderr
        assert everything(job) == expected[0]
        asked = asked_for_sessions(studio)
        assert len(asked) > len(set(asked)) + 4, "some were asked for again"


def test_a_machine_without_pyspark_is_told_what_to_install(tmp_path):
    with studio_of(WORLD, page_size=5) as studio:
        ended = job_at(tmp_path / "job", studio, rest=ENGINE).cli("run")
    assert ended.returncode == 2
    assert "engine.kind is spark, and PySpark is not installed here; install nimble-etl[spark]" in ended.stderr


def test_an_engine_that_is_not_there_is_a_sentence_and_the_run_goes_on_later(tmp_path):
    with studio_of(WORLD, page_size=5) as studio:
        job = job_at(tmp_path / "job", studio, rest=ENGINE)
        ended = on(SAIL, job, NIGHT, NIMBLE_ETL_ENGINE__REMOTE="sc://127.0.0.1:9")
        assert ended.returncode == 3
        assert "engine spark: sc://127.0.0.1:9 does not answer: Connection refused" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert on(SAIL, job, NIGHT).returncode == 0
