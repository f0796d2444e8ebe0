"""Spark and Sail as data teams have them: programs of their own, with the package on their path."""

import datetime as dt
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from support.job import Job, plain_duckdb, reading

ROOT = Path(__file__).parents[2]
OF_THE_RUN = {"snapshot_date", "run_id", "extracted_at"}
"""Columns in which two readings of the same differ."""


def content(rows: pa.Table) -> str:
    """Return a digest of rows in any order, with the names of their columns."""
    kept = rows.select([name for name in rows.schema.names if name not in OF_THE_RUN])
    plain_duckdb().register("kept", kept)
    texts = plain_duckdb().execute("select t::varchar from kept as t order by all").fetchall()
    plain_duckdb().unregister("kept")
    return hashlib.sha256("\n".join(text for (text,) in texts).encode()).hexdigest()


def exported(job: Job, table: str) -> pa.Table:
    """Return what a night has written to a table."""
    with reading(job.store) as connection:
        return connection.table(table).to_arrow_table()


def need(name: str) -> None:
    """Skip a test for which an engine has no wheel; fail where tests must be whole."""
    place = ROOT / f".venv-{name}"
    if not (place / "pyspark").is_dir():
        assert (place / "run").exists(), "make installs it"
        assert os.environ.get("CI") != "true", f"{name} could not be installed"
        pytest.skip(f"{name} has no wheel for this Python")


def started(kind: tuple[str, str], job: Job, at: dt.datetime, **environment: str) -> subprocess.Popen:
    """Start a night of a job whose tasks an engine does: the name of its environment, and its master.

    Its standard error can be read; its own process group has all that it starts.
    """
    name, master = kind
    place = ROOT / f".venv-{name}"
    need(name)
    arguments = ("run", "--snapshot-date", at.date().isoformat(), "--config", str(job.config))
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "support.on_spark", master, *arguments],
        env={
            **os.environ,
            **job.environment,
            "PYTHONPATH": os.pathsep.join(map(str, (place, ROOT / "tests", ROOT))),
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_HOME": str(place / "pyspark"),
            "SPARK_LOCAL_IP": "127.0.0.1",
            **environment,
        },
        cwd=job.directory, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


class EngineError(Exception):
    """What a user of the engine sees."""


class Engine:
    """A running engine that has registered `AwsList`. `kind` is sail or spark."""

    def __init__(self, kind: str, directory: Path, environment: dict[str, str]) -> None:
        self.kind = kind
        self.directory = directory
        self._log = (directory / "engine.log").open("w")
        place = ROOT / f".venv-{kind}"
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "support.engine", kind],
            env={
                **os.environ,
                **environment,
                "PYTHONPATH": os.pathsep.join(map(str, (place, ROOT / "tests", ROOT))),
                "PYSPARK_PYTHON": sys.executable,
                "SPARK_LOCAL_IP": "127.0.0.1",
            },
            cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip

    @property
    def log(self) -> str:
        """What the engine and its workers have written so far."""
        return (self.directory / "engine.log").read_text()

    def read(self, query: str = "select * from listed", *, source: str = "aws_list", **options: object) -> pa.Table:
        """Return what a query of the view `listed` finds; the view is what these options read.

        Raises:
            EngineError: the engine says no.
        """
        path = self.directory / "answer.arrow"
        asked = {"query": query, "source": source, "to": str(path), "options": {k: str(v) for k, v in options.items()}}
        answer = self._ask(asked)
        if "error" in answer:
            raise EngineError(answer["error"])
        with pa.ipc.open_file(path) as file:
            return file.read_all()

    def explain(self, **options: object) -> str:
        """Return how the engine tells the plan of reading with these options."""
        return self._ask({"options": {k: str(v) for k, v in options.items()}, "source": "aws_list"})["plan"]

    def run(self, code: str) -> str:
        """Run Python code as a user has it, who has a session called `spark`; return what it prints."""
        answer = self._ask({"code": code})
        assert "error" not in answer, answer
        return answer["printed"]

    def _ask(self, asked: dict) -> dict:
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("answer "):  # engines print what they like
                return json.loads(line.removeprefix("answer "))
        raise AssertionError(f"{self.kind} has ended: {self.log[-3000:]}")

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()
