"""A night of twenty accounts on a Spark of this machine, one of whose executors is killed on the way: make demo-scale.

It shows three things: what Spark's workers walk, what a killed executor costs, and that every table is what one process
exports.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import duckdb
from deltalake import DeltaTable

ROOT = Path(__file__).absolute().parents[1]
DATE = "2026-11-20"
SPARK = ROOT / ".venv-spark"
_SEGMENTS_BEFORE_THE_KILL = 12
_LOOK_S = 0.05
_CONFIG = """
source:
  endpoint_url: embedded
  region: us-west-2
  organization: {role: nimble-etl-reader}
emulator: {accounts: 20, studios: 4, sessions_per_studio: 150, page_size: 20}
run: {concurrency: 4}
marts: {build: false}
engine: {tasks: 16, segment_pages: 4}
"""
_SUBMIT = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "512m",
    "spark.executor.memory": "512m",
    "spark.log.level": "OFF",
}
_OWN = {
    "run_id", "extracted_at", "received_at", "request_id", "started_at", "finished_at", "seconds", "invocations",
    "observed_from", "observed_until", "published_at", "retries", "table_versions", "publication",
}  # fmt: skip
"""Columns that differ between two runs that see the same."""


def main() -> int:
    """Run the night twice, compare, and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="nimble-etl-") as directory:
        threads, spark = Path(directory) / "threads", Path(directory) / "spark"
        for place in threads, spark:
            place.mkdir()
            (place / "config.yaml").write_text(_CONFIG)
        say("one process, threads")
        _nimble(threads, "threads").wait()
        say("Spark with two executors")
        job = _nimble(spark, "spark")
        killed = _kill_an_executor(job, spark / "warehouse" / "_tasks")
        say(f"killed the executor {killed}" if killed else "the night was over before an executor could be killed")
        if job.wait():
            return job.returncode
        alike = [name for name in _tables(threads) if _content(threads, name) == _content(spark, name)]
        other = sorted(set(_tables(threads)) - set(alike))
        say(f"{len(alike)} tables are equal, row by row" + "".join(f"; {name} differs" for name in other))
        return 1 if other or not killed else 0


def say(text: str) -> None:
    """Print a line at once."""
    print(f"--- {text}", flush=True)


def on_spark(master: str) -> dict[str, str]:
    """Return the environment of a job that gets a Spark of this machine."""
    submit = " ".join(f"--conf {name}={value}" for name, value in _SUBMIT.items())
    return {
        "PYTHONPATH": f"{SPARK}{os.pathsep}{ROOT}",
        "PYTHONWARNINGS": "ignore",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_SUBMIT_ARGS": f"--master {master} {submit} pyspark-shell",
        "SPARK_HOME": str(SPARK / "pyspark"),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }


def _nimble(directory: Path, engine: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **on_spark("local-cluster[2,1,1024]")}
    command = [sys.executable, "-m", "etl", "--log-level", "warning", "run", "--snapshot-date", DATE]
    return subprocess.Popen([*command, "--engine", engine, "--config", directory / "config.yaml"], env=environment)


def _kill_an_executor(job: subprocess.Popen[bytes], chains: Path) -> int | None:
    """Kill an executor once its workers have made some segments; return its process id."""
    while job.poll() is None:
        executors = [pid for pid, command in _processes() if "CoarseGrainedExecutorBackend" in command]
        if executors and len(list(chains.rglob("*.segment"))) >= _SEGMENTS_BEFORE_THE_KILL:
            os.kill(executors[0], signal.SIGKILL)
            return executors[0]
        with suppress(subprocess.TimeoutExpired):
            job.wait(_LOOK_S)
    return None


def _processes() -> Iterator[tuple[int, str]]:
    """Yield the id and the command of each Java process of this user that belongs to this Spark."""
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_text().replace("\0", " ")
        except OSError:  # no process, or one that has ended
            continue
        if str(SPARK) in command and command.partition(" ")[0].endswith("java"):
            yield int(entry.name), command


def _tables(directory: Path) -> list[str]:
    return sorted(log.parent.name for log in (directory / "warehouse").glob("*/_delta_log"))


def _content(directory: Path, name: str) -> tuple[int, int]:
    """Return the number of rows of a table, and the sum of their hashes, without what is a run's own."""
    rows = DeltaTable(directory / "warehouse" / name).to_pyarrow_table()
    rows = rows.select(sorted(set(rows.schema.names) - _OWN))
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        found = connection.execute("select count(*), coalesce(sum(hash(r)::hugeint), 0)::varchar from rows as r")
        count, total = found.fetchall()[0]
        return count, int(total)


if __name__ == "__main__":
    sys.exit(main())
