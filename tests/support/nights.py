"""Nights in a row: all but the last are published, the last is about to be, again and again from the same directory."""

import datetime as dt
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
from deltalake import DeltaTable

from etl.emulator import EmbeddedStudio
from etl.jobs.verify import verify
from etl.load.delta.tables import Tables
from etl.model import CATALOG_NAME
from etl.storage.disk import Disk as Directory
from support.disk import Disk, Ended
from support.job import NIGHT, Job, connected, job_at, plain_duckdb

TABLES = {
    "streaming_sessions": "streaming_sessions_history",
    "streaming_session_tags": "streaming_session_tags_history",
    "streaming_session_changes": "streaming_session_changes",
}
"""Table -> its rows of all dates in the catalog."""
PER_RUN = {"run_id", "extracted_at"}

Rows = dict[str, list[str]]


@dataclass
class Nights:
    """A job whose disk is put back to what it was before the last night.

    Attributes:
        disk: runs its commands.
        job: in a directory that is always the same, for the catalog names files by their absolute paths.
        night: the last one.
        studio: as it is in that night.
        requests: how many the studio is sent in that night, undisturbed.
        former: rows of each table before it.
        whole: rows of each table after it, undisturbed.
    """

    disk: Disk
    job: Job
    night: dt.datetime
    studio: EmbeddedStudio
    requests: int = 0
    former: Rows = field(default_factory=dict)
    whole: Rows = field(default_factory=dict)

    @classmethod
    def spend(cls, disk: Disk, directory: Path, *studios: EmbeddedStudio) -> "Nights":
        """Publish all nights but the last, keep a copy of the disk, and learn what the last looks like."""
        for day, studio in enumerate(studios):
            nights = cls(disk, _job(directory / "job", studio), NIGHT + dt.timedelta(days=day), studio)
            if studio is studios[-1]:
                nights.age()
                shutil.copytree(nights.job.directory, nights.copy)
                nights.former = nights.seen_in_tables()
            ended = nights.run()
            assert ended.exit_code == 0, ended.output
        nights.requests = len(studio.requests)
        nights.whole = nights.seen_in_tables()
        return nights

    @property
    def copy(self) -> Path:
        """The directory as it was before the last night."""
        return self.job.directory.with_name("copy")

    def age(self) -> None:
        """Have the tables write a checkpoint of their log with their next commit, as with each hundredth."""
        for log in self.job.directory.glob("warehouse/*/_delta_log"):
            table = DeltaTable(log.parent)
            interval = {"delta.checkpointInterval": str(table.version() + 2)}
            table.alter.set_table_properties(interval)

    def put_back(self) -> None:
        """Make the disk what it was before the last night."""
        shutil.rmtree(self.job.directory)
        shutil.copytree(self.copy, self.job.directory)

    def run(self, **options) -> Ended:
        """Run the job for the last night; options as `Disk.run` has them."""
        return self.disk.run(self.job, "run", "--snapshot-date", self.night.date().isoformat(), **options)

    def seen_in_catalog(self) -> Rows:
        """Return what a reader who connects to the catalog sees."""
        path = self.job.directory / "warehouse" / CATALOG_NAME
        if not path.exists():
            return {table: [] for table in TABLES}
        with connected(path) as connection:
            there = {name for (name,) in connection.execute("select table_name from duckdb_columns()").fetchall()}
            return {
                table: _rows(connection, relation) if relation in there else [] for table, relation in TABLES.items()
            }

    def seen_in_tables(self) -> Rows:
        """Return what a reader of the Delta tables sees."""
        return {table: self.seen_in_table(table) for table in TABLES}

    def seen_in_table(self, table: str) -> list[str]:
        """Return what a reader of one Delta table sees."""
        tables = Tables(Directory(self.job.directory / "warehouse"))
        files = ", ".join(f"'{file}'" for file in _data_files(tables, table))
        relation = f"read_parquet([{files}], union_by_name = true, hive_partitioning = true)"
        return _rows(plain_duckdb(), relation) if files else []

    def problems(self) -> list[str]:
        """Return what `verify` finds."""
        return [str(finding) for finding in verify(self.job.settings()) if finding.problem]

    def leftovers(self) -> list[str]:
        """Return files that are neither published, nor a ledger, nor anything that was there before."""
        directory = self.job.directory
        warehouse = Tables(Directory(directory / "warehouse"))
        known = {str(file) for name in warehouse.names() for file in _data_files(warehouse, name)}
        return [
            str(file.relative_to(directory))
            for file in sorted(directory.rglob("*"))
            if file.is_file()
            and str(file) not in known
            and not (self.copy / file.relative_to(directory)).exists()
            and file.name.partition(".sqlite")[2] not in {"", "-wal", "-shm"}
            and not (file.parent.name == "_delta_log" and file.suffix == ".json")
        ]


def _rows(connection: duckdb.DuckDBPyConnection, relation: str) -> list[str]:
    """Return every row as text, in order, without what differs between two runs that see the same."""
    columns = sorted({name for name, *_ in connection.execute(f"describe from {relation}").fetchall()} - PER_RUN)
    rows = connection.execute(f"select row({', '.join(columns)})::varchar from {relation} order by all")
    return [row for (row,) in rows.fetchall()]


def _data_files(warehouse: Tables, name: str) -> list[str]:
    committed = warehouse.read(name)
    return [file for files in committed.files.values() for file in files] if committed else []


def _job(directory: Path, studio: EmbeddedStudio) -> Job:
    # One walk at a time: the same operation has the same number in every run.
    rest = "datasets: [streaming_sessions]\nrun: {concurrency: 1}"
    return job_at(directory, studio, source="  account_id: '123456789012'", rest=rest)
