"""A warehouse with tables of a few rows, written as the job writes them."""

import datetime as dt
import os
import tempfile
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from etl.load.catalog.build import Content, build_catalog
from etl.load.catalog.carried import checksum
from etl.load.delta.atomic import alone
from etl.load.delta.stage import Stage
from etl.load.delta.tables import Replacement
from etl.model import CATALOG_NAME
from etl.sqlfiles import sql_files
from etl.transform.facts import ETL_TABLES, SLICES, batch
from etl.transform.schema import SNAPSHOT_DATE, field
from support.buckets import prefix_of
from support.shapes import ACCOUNT, ARRIVED, DATE, REGION
from support.stores import connect, files_of

NEXT_DATE = DATE + dt.timedelta(days=1)
CARRIED = sorted(name for name, file in sql_files("marts").items() if file.carried)
"""Marts that one catalog carries on from another."""
THINGS = pa.schema(
    [
        SNAPSHOT_DATE,
        field("slice_id", pa.string(), "slice of the run that the row comes from"),
        field("n", pa.int32(), 'a number; it\'s "quoted"'),
        field("text", pa.string(), "some text"),
        field("tags", pa.map_(pa.string(), pa.string()), "tags"),
        field("at", pa.timestamp("us", tz="UTC"), "an instant"),
    ]
)
"""A table of a dataset: it has slices."""
WIDE = pa.schema([*THINGS, field("colour", pa.string(), "came later"), field("weight", pa.float64(), "came later")])
"""The same table of a newer version."""


def rows_of(slice_id, numbers, date=DATE, schema=THINGS, **columns):
    """Return a batch of rows: one for each number."""
    count = len(numbers)
    filled = {
        "snapshot_date": [date] * count,
        "slice_id": [slice_id] * count,
        "n": numbers,
        "text": [f"{slice_id} {n}" for n in numbers],
        "tags": [[("n", str(n))] for n in numbers],
        "at": [ARRIVED] * count,
        **columns,
    }
    return pa.RecordBatch.from_pydict({name: filled[name] for name in schema.names}, schema=schema)


def stage(tables, slices, *, date=DATE, run="run-1", schema=THINGS, table="things", **columns):  # noqa: PLR0913
    """Return a stage with rows: slice -> its numbers."""
    staged = Stage(tables, table, schema, Replacement(date, "slice_id", tuple(slices)), run)
    for slice_id, numbers in slices.items():
        staged.write(rows_of(slice_id, numbers, date, schema, **columns))
    return staged


def publish(tables, slices, *, run="run-1", number=1, **rest):
    """Replace slices of one date: slice -> its numbers."""
    staged = stage(tables, slices, run=run, **rest)
    staged.commit(run, number)


def publish_slices(tables, slices, *, date=DATE, run="run-1", number=1, **changes):
    """Write the facts about slices of `things` that readers find current snapshots with."""
    facts = {
        "dataset": "things", "account_id": ACCOUNT, "region": REGION, "filters": [], "is_filtered": False,
        "state": "complete", "is_published": True, "is_partial": False, "attempt": 1, "pages": 1, "records": 1,
        "rows": 1, "rejects": 0, "duplicates": 0, "retries": 0, "drift": [], "error": None,
        "observed_from": ARRIVED, "observed_until": ARRIVED, "published_at": ARRIVED,
        "publication": number, "pages_sha256": None, "table_rows": [], "is_dropped": False,
    }  # fmt: skip
    rows = [{**facts, "slice_id": name, "parents": [("studioId", name)], **changes} for name in slices]
    staged = Stage(tables, "etl_slices", SLICES, Replacement(date, "run_id", (run,)), run)
    staged.write(batch(SLICES, date, run, rows))
    staged.commit(run, number)


def build(tables, **known):
    """Build the catalog as the job does, and return its path on a disk."""
    build_catalog(tables, Content({**ETL_TABLES, **known}))
    return tables.store.local and tables.store.local / CATALOG_NAME


def ask(tables, statement):
    """Return the first column of an answer of the catalog, as any reader would get it."""
    with connect(tables.store) as connection:
        return connection.sql(statement).to_arrow_table().column(0).to_pylist()


def write_into(catalog, statement, *, as_if_made=True):
    """Write into a catalog as another program would; with `as_if_made`, so that its checksums do not tell of it."""
    catalog.chmod(0o600)
    with duckdb.connect(catalog) as connection:
        connection.execute(statement)
        for mart in CARRIED if as_if_made else ():
            digest = checksum(connection, f"main.{mart}")
            connection.execute("update etl_carried set checksum = ? where mart = ?", [digest, mart])


def build_alone(tables):
    """Build the catalog as the job does, which holds the lock of the warehouse."""
    with alone(tables, dt.timedelta(minutes=1)):
        build(tables)


def record_syncs(monkeypatch):
    """Return a list that fills with what is synced and renamed, in order: ("sync", name), ("rename", old name)."""
    events, fsync, replace = [], os.fsync, Path.replace

    def synced(descriptor):
        events.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        fsync(descriptor)

    def replaced(path, target):
        events.append(("rename", path.name))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    return events


def numbers(tables, table="things"):
    """Return what readers see: (date, slice) -> its numbers, by the data files that the log names."""
    found = {}
    committed = tables.read(table)
    for date, files in (committed.files if committed else {}).items():
        for file in files:
            for row in pq.ParquetFile(committed.store.opened(file)).read(columns=["slice_id", "n"]).to_pylist():
                found.setdefault((date, row["slice_id"]), []).append(row["n"])
    return {key: sorted(values) for key, values in found.items()}


def place(tables):
    """Return a directory with what is in a warehouse now: the disk itself, or copies of its objects."""
    return files_of(tables.store, Path(tempfile.gettempdir()) / f"objects-{os.getpid()}" / prefix_of(tables.store.uri))


def data_files(tables, table="things"):
    return sorted((place(tables) / table).rglob("*.parquet"))


def live_files(tables, table="things"):
    """Return the files that the log names, where they can be read."""
    directory = place(tables)
    named = (file for files in tables.read(table).files.values() for file in files)
    return sorted(directory / file.removeprefix(f"{tables.store.uri}/") for file in named)
