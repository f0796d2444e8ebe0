"""A catalog is read by the versions of DuckDB that BI tools bundle: each minor version from 1.1 on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.job import DATE, RUN, job_at
from support.studios import studio_of

from etl.emulator import World
from etl.load.delta.tables import Tables
from etl.model import CATALOG_NAME

ROOT = Path(__file__).parents[2]
VERSIONS = sorted(path.stem for path in (ROOT / "tests/data/duckdb").glob("*.lock"))
READ = """
import hashlib, json, sys
import duckdb

connection = duckdb.connect(sys.argv[1], read_only=True)
connection.execute("set TimeZone = 'UTC'")
found = connection.execute(
    "select schema_name, view_name from duckdb_views() where not internal"
    " union all select schema_name, table_name from duckdb_tables() order by all"
).fetchall()
counts = {}
for schema, name in found:
    rows = connection.execute(f'select to_json(t)::varchar from "{schema}"."{name}" as t').fetchall()
    counts[f"{schema}.{name}"] = len(rows)
    if name == "streaming_sessions":
        texts = sorted(text for (text,) in rows)
        counts["content"] = hashlib.sha256("".join(texts).encode()).hexdigest()
for call in json.loads(sys.argv[2]):
    counts[call] = connection.execute(f"select count(*) from {call}").fetchone()[0]
print(json.dumps([duckdb.__version__, counts]))
"""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """A night with marts, flat views and change log; so many sessions that their instants are packed."""
    with studio_of(World(sessions_per_studio=300)) as studio:
        job = job_at(tmp_path_factory.mktemp("job"), studio, marts=True)
        assert job.finish(*RUN) == 0, job.log
        (file,) = Tables(job.store).files("streaming_sessions", DATE)
        group = pq.read_metadata(file).row_group(0)
        columns = (group.column(number) for number in range(group.num_columns))
        packed = {one.path_in_schema for one in columns if "DELTA_BINARY_PACKED" in one.encodings}
        assert {"created_at", "updated_at"} <= packed
        return job.directory / "warehouse" / CATALOG_NAME


def read(catalog, place=None):
    """Return the version of DuckDB, and the rows of every relation and macro as it reads them."""
    calls = [
        f"streaming_sessions_as_of('{DATE}')",
        f"streaming_session_changes_between('{DATE}', '{DATE}T23:30:00-08:00')",
    ]
    done = subprocess.run(
        [sys.executable, "-c", READ, str(catalog), json.dumps(calls)],
        env={**os.environ, **({"PYTHONPATH": str(place)} if place else {})},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_relation_and_macro_is_read_as_by_the_newest(version, catalog):
    place = ROOT / ".venv-duckdb" / version
    if not (place / "duckdb").is_dir():
        assert (ROOT / ".venv-duckdb" / "run").exists(), "make installs them"
        pytest.skip(f"DuckDB {version} has no wheel for this Python")

    found, counts = read(catalog, place)

    assert found == version
    newest, expected = read(catalog)
    assert newest not in VERSIONS
    assert counts == expected
    assert counts["main.streaming_sessions"] > 500
    assert len(counts) > 40


def test_each_minor_version_from_1_1_on_is_among_them():
    assert any((ROOT / ".venv-duckdb" / version / "duckdb").is_dir() for version in VERSIONS), "not all are skipped"
    assert [version.rpartition(".")[0] for version in VERSIONS] == ["1.1", "1.2", "1.3", "1.4", "1.5"]
