"""What a machine refuses, or a person stops: each ends in a sentence and an exit code that says what to do."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.job import DATE, DATE_FLAG, RUN, finished, job_at

ASKING = {
    "--help": [],
    "status": [],
    "sql": ["from streaming_sessions"],
    "sql as parquet": ["from streaming_sessions", "--format", "parquet"],
    "describe": [],
    "verify": ["--json"],
    "config": ["show"],
}


def started(job, *arguments, **streams):
    """Start the command line as an operator would."""
    return subprocess.run(
        [sys.executable, "-m", "etl", *arguments, *job._config(arguments)],
        env={**os.environ, **job.environment}, check=False, **streams,
    )  # fmt: skip


# Standard output


@pytest.mark.parametrize("command", ASKING)
def test_fault_77_an_answer_that_a_full_disk_takes_only_in_part_is_not_exit_code_0(command, undisturbed):
    arguments = [command.split()[0], *ASKING[command]]
    with Path("/dev/full").open("wb") as full:
        done = started(undisturbed, *arguments, stdout=full, stderr=subprocess.PIPE)
        silent = started(undisturbed, *arguments, stdout=full, stderr=full)

    assert done.returncode == silent.returncode == 3
    assert done.stderr.decode() == (
        "nimble-etl: standard output: No space left on device; what was printed is not whole: make room, then ask "
        "again\n"
    )


def test_fault_77_a_run_whose_report_a_full_disk_refuses_publishes_and_tells(small_studio, expected, tmp_path):
    job = job_at(tmp_path, small_studio, rest=f"on_finish: {{command: [cp, /dev/stdin, '{tmp_path}/told']}}")
    with Path("/dev/full").open("wb") as full:
        done = started(job, *RUN, stdout=full, stderr=full)

    assert done.returncode == 5, "published, but something needs a look"
    assert json.loads((tmp_path / "told").read_text())["exit_code"] == 5
    assert job.exported_rows() == expected


def test_fault_60_an_answer_without_standard_streams_is_no_error(undisturbed):
    command = f"exec {sys.executable} -m etl sql 'from studios' --config {undisturbed.config} <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], check=False).returncode == 0


# Open files and threads

FEW_FILES = """
import resource
import support.job

resource.setrlimit(resource.RLIMIT_NOFILE, limits)
support.job._child(arguments, environment, log)
"""


@pytest.mark.parametrize("command", [RUN, ("status",), ("verify",), ("compact",), ("sql", "from studios")])
def test_fault_77_too_few_open_files_are_named_before_the_first_request(command, small_studio, tmp_path):
    asked = len(small_studio.requests)
    job = job_at(tmp_path, small_studio)

    assert finished(job.start_program(FEW_FILES, *command, names={"limits": (12, 12)})) == 3
    assert job.log.endswith(
        "nimble-etl: this process may have 12 open files; expected at least 256: raise the limit (`ulimit -n`), then "
        "run again\n"
    )
    assert len(job.log.splitlines()) == 1
    assert len(small_studio.requests) == asked


def test_fault_77_a_limit_of_open_files_that_the_job_may_raise_is_raised(small_studio, expected, tmp_path):
    job = job_at(tmp_path, small_studio)

    assert finished(job.start_program(FEW_FILES, *RUN, names={"limits": (12, 4096)})) == 0, job.log
    assert job.exported_rows() == expected


FEW_THREADS = """
import encodings.idna  # whom the job becomes may not enter where Python is
import os
import resource
import support.job

def refuse(*_):
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))

if not os.geteuid():
    os.setuid(65534)
if "NIMBLE_ETL_FAILPOINT" in environment:
    os.kill = refuse
else:
    refuse()
support.job._child(arguments, environment, log)
"""
"""A job that may start no thread: at all, or from its failpoint on. The kernel limits everybody but root."""


@pytest.fixture
def job_of_nobody(small_studio):
    """A job whose directories belong to somebody else than root; pytest's own may be entered by nobody else."""
    with tempfile.TemporaryDirectory() as directory:
        job = job_at(Path(directory), small_studio)
        job.directory.chmod(0o777)
        yield job


def test_fault_77_no_threads_are_named_before_the_first_request(job_of_nobody, small_studio):
    asked = len(small_studio.requests)

    assert finished(job_of_nobody.start_program(FEW_THREADS, *RUN)) == 3
    assert "nimble-etl: this process may start 0 threads; expected at least " in job_of_nobody.log
    assert "raise the limit of processes (`ulimit -u`), or end some, then run again" in job_of_nobody.log
    assert "Traceback" not in job_of_nobody.log
    assert len(small_studio.requests) == asked


def test_fault_77_a_thread_that_is_refused_in_mid_run_leaves_it_resumable(job_of_nobody, expected):
    stopped = finished(job_of_nobody.start_program(FEW_THREADS, *RUN, NIMBLE_ETL_FAILPOINT="page.stored:1"))

    assert stopped == 3, job_of_nobody.log
    assert "can't start new thread: the machine has no more of them; raise the limit" in job_of_nobody.log
    assert "Traceback" not in job_of_nobody.log
    assert job_of_nobody.finish(*RUN) == 0, job_of_nobody.log
    assert job_of_nobody.exported_rows() == expected


# Ctrl-C

INTERRUPTED = """
import importlib
import os
import signal
import support.job

place = importlib.import_module(module)
former = getattr(place, name)

def interrupted(*arguments, **options):
    os.kill(os.getpid(), signal.SIGINT)
    return former(*arguments, **options)

setattr(place, name, interrupted)
support.job._child(arguments, environment, log)
"""
"""A command whose operator types Ctrl-C at the moment when it calls a function."""

AT = {
    "compact": ("etl.load.delta.upkeep", "compact"),
    "vacuum": ("etl.load.delta.upkeep", "vacuum"),
    "verify": ("duckdb", "connect"),
    "status": ("duckdb", "connect"),
    "sql": ("duckdb", "connect"),
    "replay": ("etl.load.delta.atomic", "_write"),
    "forget": ("etl.pipeline.forget", "carry_out"),
    "import": ("etl.jobs.dumps", "publish"),
}
TYPED = {
    "sql": ["from studios"],
    "replay": ["--since", DATE.isoformat()],
    "forget": ["--since", DATE.isoformat(), "--yes"],
    "import": ["{directory}/dump.json", "--studio-id", "studio", *DATE_FLAG],
}


@pytest.mark.parametrize("command", AT)
def test_fault_44_ctrl_c_ends_every_command_with_130_and_a_sentence(command, small_studio, tmp_path):
    job = job_at(tmp_path, small_studio)
    assert job.finish(*RUN) == 0, job.log
    arn = "arn:aws:nimble:us-west-2:123456789012:streaming-session/a"
    (tmp_path / "dump.json").write_text(json.dumps({"sessions": [{"sessionId": "a", "arn": arn}]}))
    (tmp_path / "log").unlink()
    arguments = [command, *(text.format(directory=tmp_path) for text in TYPED.get(command, []))]

    module, name = AT[command]
    ended = finished(job.start_program(INTERRUPTED, *arguments, names={"module": module, "name": name}))

    assert ended == 130, job.log
    assert job.log.endswith("nimble-etl: interrupted; what was half done, the next job finishes or takes back\n")
    assert "Traceback" not in job.log
    assert job.finish(*RUN) == 0, job.log
    assert job.problems() == []


WHILE_IMPORTING = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

from etl.cli import main
sys.meta_path.insert(0, Finder())
sys.argv = ["nimble-etl", "status"]
main()
"""


def test_fault_44_ctrl_c_while_python_imports_is_130_too():
    done = subprocess.run([sys.executable, "-c", WHILE_IMPORTING], capture_output=True, text=True, check=False)

    assert done.returncode == 130
    assert done.stderr == "nimble-etl: interrupted; what was half done, the next job finishes or takes back\n"


def test_fault_44_ctrl_c_is_heard_by_a_query_that_would_take_for_ever(undisturbed):
    """DuckDB itself would make another error of it."""
    endless = "select count(*) from range(1000000000) as a, range(1000000000) as b where a.range * b.range % 7 = 3"
    process = undisturbed.start_program(WHEN_ASKED, "sql", endless)

    assert finished(process) == 130, undisturbed.log
    assert "Traceback" not in undisturbed.log


WHEN_ASKED = """
import os
import signal
import threading
import duckdb
import support.job

former = duckdb.DuckDBPyRelation.to_arrow_table

def interrupted(self, *arguments):
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    return former(self, *arguments)

duckdb.DuckDBPyRelation.to_arrow_table = interrupted
support.job._child(arguments, environment, log)
"""
