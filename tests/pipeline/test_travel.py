"""The package travels to processes that have another one, pickled as Spark does it."""

import os
import subprocess
import sys
from functools import partial

import pytest
from support.engines import ROOT, need

from etl.model import digest
from etl.pipeline.travel import travelling
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
        pickled = subprocess.run(
            [sys.executable, "-c", PICKLES, name], env=environment(ROOT), stdout=subprocess.PIPE, check=True
        )
        process = subprocess.Popen(
            [sys.executable, "-c", UNPICKLES, *given], env=environment(tmp_path / "another"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        return partial(process.communicate, pickled.stdout)

    def environment(first):
        path = os.pathsep.join(map(str, (first, ROOT / ".venv-sail")))
        return {**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)}

    return start


@pytest.fixture
def home(tmp_path):
    """Where packages are unpacked for this user."""
    return tmp_path / f"nimble-etl-{os.getuid()}"


def test_what_travels_does_what_the_driver_would(worker, home):
    for _ in range(2):
        assert worker("digest", "a", "b")() == (f"{digest('a')} {digest('b')}\n".encode(), b"")
    assert len(list(home.iterdir())) == 1, "the second process finds what the first has unpacked"
    assert home.stat().st_mode & 0o077 == 0


def test_sql_files_travel_too(worker):
    assert worker("sql_files", "macros")() == (f"{sql_files('macros')}\n".encode(), b"")


def test_of_two_processes_that_unpack_at_once_one_is_enough(home, monkeypatch, tmp_path):
    run = travelling(partial(map, digest))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("sys.path", [*sys.path])
    for name in [name for name in sys.modules if name.partition(".")[0] == "etl"]:
        monkeypatch.delitem(sys.modules, name)
    rename = os.rename

    def second(source, target):
        if not target.is_dir():
            target.mkdir()
            (target / "other").touch()
        rename(source, target)

    monkeypatch.setattr("os.rename", second)
    assert list(run(["a"])) == [digest("a")]
    assert len(list(home.iterdir())) == 1


def test_a_directory_that_others_can_write_to_is_refused(worker, home, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    home.symlink_to(tmp_path / "elsewhere")
    _, said = worker("digest", "a")()
    assert f"PermissionError: {home} on {os.uname().nodename} is another user's; remove it".encode() in said
