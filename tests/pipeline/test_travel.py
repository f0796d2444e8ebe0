"""The package travels to processes that have another one, pickled as Spark does it."""

import os
import subprocess
import sys

import pytest
from support.engines import ROOT, need

from etl.model import digest
from etl.sqlfiles import sql_files

PICKLES = """
import sys
from etl.model import digest
from etl.pipeline.travel import travelling
from etl.sqlfiles import sql_files
from functools import partial
from pyspark import cloudpickle

sys.stdout.buffer.write(cloudpickle.dumps(travelling(partial(map, globals()[sys.argv[1]]))))
"""
UNPICKLES = """
import pickle, sys

print(*pickle.load(sys.stdin.buffer)(sys.argv[1:]))
"""


@pytest.fixture
def worker(tmp_path):
    """Return a function that gives a function of ours to a process with another package of our name."""
    need("sail")
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "etl.py").write_text("raise ImportError('another version')")

    def start(name, *given):
        pickled = tmp_path / name
        if not pickled.exists():
            made = subprocess.run(
                [sys.executable, "-c", PICKLES, name], env=environment(ROOT), stdout=subprocess.PIPE, check=True
            )
            pickled.write_bytes(made.stdout)
        with pickled.open("rb") as function:
            process = subprocess.Popen(
                [sys.executable, "-c", UNPICKLES, *given], env=environment(tmp_path / "another"),
                cwd=tmp_path, stdin=function, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        return process.communicate

    def environment(first):
        path = os.pathsep.join(map(str, (first, ROOT / ".venv-sail")))
        return {**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)}

    return start


@pytest.fixture
def home(tmp_path):
    """Where packages are unpacked for this user."""
    return tmp_path / f"nimble-etl-{os.getuid()}"


def test_workers_that_begin_at_once_do_what_the_driver_would_and_unpack_one_package(worker, home):
    for answer in [worker("digest", "a", "b") for _ in range(4)]:
        assert answer() == (f"{digest('a')} {digest('b')}\n".encode(), b"")
    (place,) = home.iterdir()
    assert list(place.rglob("tmp*")) == [], "nothing half unpacked is left"
    assert home.stat().st_mode & 0o077 == 0


def test_files_that_the_machine_has_removed_from_the_temporary_ones_are_unpacked_again(worker, home):
    assert worker("digest", "a")()[1] == b""
    (place,) = home.iterdir()
    (place / "etl" / "model.py").unlink()
    (place / "etl" / "sql" / "macros").rename(place / "gone")
    assert worker("digest", "a")() == (f"{digest('a')}\n".encode(), b"")
    assert worker("sql_files", "macros")() == (f"{sql_files('macros')}\n".encode(), b"")


def test_sql_files_travel_too(worker):
    assert worker("sql_files", "macros")() == (f"{sql_files('macros')}\n".encode(), b"")


def test_a_directory_that_others_can_write_to_is_refused(worker, home, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    home.symlink_to(tmp_path / "elsewhere")
    _, said = worker("digest", "a")()
    assert f"PermissionError: {home} on {os.uname().nodename} is another user's; remove it".encode() in said
