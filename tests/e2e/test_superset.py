"""Superset's way to the catalog, with what it pins: SQLAlchemy 1.4 and duckdb-engine 0.12; and an older DuckDB."""

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.job import DATE, job_at
from support.studios import studio_of

from etl.emulator import World
from etl.model import CATALOG_NAME

PLACE = Path(__file__).parents[2] / ".venv-duckdb" / "superset"
NEXT = DATE + dt.timedelta(days=1)
ASKING = """
import sys
import sqlalchemy
from sqlalchemy.pool import NullPool, QueuePool

assert sqlalchemy.__version__.startswith("1.4."), sqlalchemy.__version__
url, pool = "duckdb:///" + sys.argv[1], {"NullPool": NullPool, "QueuePool": QueuePool}[sys.argv[2]]
engine = sqlalchemy.create_engine(url, poolclass=pool, connect_args={"read_only": True})
newest = sqlalchemy.text("select cast(max(snapshot_date) as varchar), count(*) from bi.sessions")
while sys.stdin.readline():
    try:
        with engine.connect() as connection:
            print(*connection.execute(newest).fetchone(), flush=True)
    except sqlalchemy.exc.DBAPIError as exc:
        print(type(exc).__name__, flush=True)
"""


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """A job after one night, and a function that starts a Superset with a kind of pool."""
    if not (PLACE / "duckdb_engine").is_dir():
        assert (PLACE.parent / "run").exists(), "make installs it"
        pytest.skip("one of Superset's packages has no wheel for this Python")
    with studio_of(World(sessions_per_studio=40)) as studio:
        job = job_at(tmp_path, studio, marts=True).lend_credentials(monkeypatch)
        job.run(DATE)
        processes = []

        def start(pool):
            process = subprocess.Popen(
                [sys.executable, "-c", ASKING, str(job.directory / "warehouse" / CATALOG_NAME), pool],
                env={**os.environ, "PYTHONPATH": str(PLACE)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            processes.append(process)

            def ask():
                process.stdin.write("\n")
                process.stdin.flush()
                return process.stdout.readline().split()

            return ask

        yield job, start
        for process in processes:
            process.communicate()


def test_the_next_query_sees_the_new_night_and_none_fails_after_vacuum(ask):
    """A pool that keeps its connection sees the old night, whose files `vacuum` may remove: hence the recipe."""
    job, start = ask
    recipe, keeps = start("NullPool"), start("QueuePool")
    assert recipe()[0] == keeps()[0] == DATE.isoformat()

    job.run(DATE)
    assert [outcome.exit_code for outcome in job.run(NEXT)] == [0]

    assert recipe()[0] == NEXT.isoformat()
    assert keeps()[0] == DATE.isoformat(), "what the recipe is for"
    assert job.finish("vacuum", "--now") == 0, job.log
    assert recipe() == [NEXT.isoformat(), *map(str, job.ask("select count(*) from bi.sessions")[0])]
    assert keeps()[0].endswith("Error"), "what the recipe is for"
