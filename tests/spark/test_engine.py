"""A night whose slices Spark walks is the night of one process, although workers are killed.

`make test` asks Sail; `make spark` also a real Spark, of which workers and executors are killed.
"""

import subprocess
import sys

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


def python_that_finds(module, text, directory):
    """Return a Python for workers that finds this module, and not that of the same name which the job has."""
    (directory / "first").mkdir()
    (directory / "first" / f"{module}.py").write_text(text)
    python = directory / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={directory}/first:$PYTHONPATH exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return str(python)


@pytest.mark.parametrize("kind", SPARKS)
def test_the_package_travels_to_workers_that_have_another_one(kind, expected, tmp_path):
    another = python_that_finds("etl", "raise ImportError('another version')", tmp_path)
    with studio_of(WORLD, page_size=5) as studio:
        job = job_at(tmp_path / "job", studio, rest=ENGINE)
        ended = on(kind, job, NIGHT, PYSPARK_PYTHON=another)
        assert ended.returncode == 0, ended.stderr
    assert everything(job) == expected[0]


@pytest.mark.parametrize("kind", SPARKS)
def test_a_library_that_workers_do_not_have_is_named(kind, tmp_path):
    missing = "raise ModuleNotFoundError(\"No module named 'botocore'\", name='botocore')"
    without = python_that_finds("botocore", missing, tmp_path)
    with studio_of(WORLD, page_size=5) as studio:
        ended = on(kind, job_at(tmp_path / "job", studio, rest=ENGINE), NIGHT, PYSPARK_PYTHON=without)
    assert ended.returncode == 2
    assert "the Python of a worker has no module botocore" in ended.stderr
    assert "\nTraceback" not in ended.stderr, "Spark's own log quotes that of its worker"


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
