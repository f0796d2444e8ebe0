"""Iceberg tables as other programs read them, and the Delta tables that they must equal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from pyiceberg.catalog import load_catalog
from pyiceberg.manifest import ManifestEntryStatus

from etl.load.iceberg import Registry

NAMESPACE = "nimble"
DUCKDB = Path(__file__).parents[2] / ".venv-duckdb" / "1.5.5"
needs_duckdb = pytest.mark.skipif(not DUCKDB.exists(), reason="no wheel of DuckDB 1.5.5 for this Python")

_READ = """
import json, pathlib, sys
import duckdb, duckdb_extension_avro, duckdb_extension_iceberg

connection = duckdb.connect()
connection.execute("set TimeZone = 'UTC'")
for module in (duckdb_extension_avro, duckdb_extension_iceberg):
    (extension,) = pathlib.Path(module.__file__).parent.rglob("*.duckdb_extension")
    connection.execute(f"load '{extension}'")
answers = []
for metadata, files, columns in json.load(sys.stdin):
    named = ", ".join(f'"{column}"' for column in columns)
    relations = [f"iceberg_scan('{metadata}')"]
    if files:
        relations.append(f"read_parquet({files!r}, hive_partitioning = true, union_by_name = true)")
    answers.append([
        sorted(text for (text,) in connection.execute(
            f"select to_json(t)::varchar from (select {named} from {relation}) as t"
        ).fetchall())
        for relation in relations
    ])
print(json.dumps(answers))
"""


def properties(directory):
    """Return the properties of a catalog in a directory: an SQLite file, and metadata beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    return {"type": "sql", "uri": f"sqlite:///{directory}/catalog.db", "warehouse": f"file://{directory}"}


def registry_in(directory):
    return Registry(properties(directory), NAMESPACE)


def load(directory, name="things"):
    """Return an Iceberg table as pyiceberg loads it, without anything of nimble-etl."""
    return load_catalog("nimble-etl", **properties(directory)).load_table(f"{NAMESPACE}.{name}")


def by_pyiceberg(table):
    """Return the rows of an Iceberg table, each as a text, sorted."""
    return texts(table.scan().to_arrow().to_pylist())


def by_polars(table):
    return texts(pl.scan_iceberg(table).collect().to_dicts())


def of_delta(place):
    """Return the rows of a Delta table in a directory, as Arrow and as Polars have them."""
    arrow, polars = DeltaTable(place).to_pyarrow_table(), pl.scan_delta(str(place)).collect()
    return texts(arrow.to_pylist()), texts(polars.to_dicts())


def texts(rows):
    return sorted(repr(sorted(row.items())) for row in rows)


def asked_of_duckdb(table, committed):
    """Return what `by_duckdb` takes: an Iceberg table as it is now, and the data files that it must equal."""
    files = [file for names in committed.files.values() for file in names]
    return table.metadata_location, files, committed.schema.names


def by_duckdb(*asked):
    """Return for each table its rows as DuckDB 1.5 reads them from Iceberg, and from the data files themselves."""
    done = subprocess.run(
        [sys.executable, "-c", _READ], input=json.dumps(asked), env={**os.environ, "PYTHONPATH": str(DUCKDB)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [(answer[0], answer[1] if len(answer) > 1 else []) for answer in json.loads(done.stdout)]


def assert_equal(table, place):
    """Compare an Iceberg table with its Delta table, in pyiceberg and in Polars."""
    arrow, polars = of_delta(place)
    assert by_pyiceberg(table) == arrow
    assert by_polars(table) == polars


def changed(table, snapshot=None):
    """Return the data files that a snapshot, or the newest one, has added and removed."""
    snapshot = snapshot or table.current_snapshot()
    found = {ManifestEntryStatus.ADDED: set(), ManifestEntryStatus.DELETED: set()}
    for manifest in snapshot.manifests(table.io):
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
            if entry.snapshot_id == snapshot.snapshot_id and entry.status in found:
                found[entry.status].add(entry.data_file.file_path.removeprefix("file://"))
    return found[ManifestEntryStatus.ADDED], found[ManifestEntryStatus.DELETED]
