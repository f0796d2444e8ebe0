"""Data files that no reader sees yet. `Stage.commit` shows all of them at once."""

import logging
from collections.abc import Collection, Iterable
from typing import Protocol

import pyarrow as pa

from etl.errors import CommitConflictError
from etl.load.delta.commit import Commit, new_file, partition_of
from etl.load.delta.log import LOG
from etl.load.delta.parquet import DataFile, Written
from etl.load.delta.tables import PARTITION, Replacement, Tables
from etl.storage.disk import remove_files, storage_errors

log = logging.getLogger(__name__)

_ROW_GROUP_BYTES = 24 * 1024 * 1024
"""Size in memory, with repeated texts as dictionaries."""
_REPEATING, _UNIQUE = 0.5, 0.9
"""Distinct values to all, up to which a dictionary is worth its while in memory, and from which on it is not in a file.
"""
_TELLING_ROWS = 256
_FILE_BYTES = 256 * 1024 * 1024


class Sink(Protocol):
    """Takes rows: a `Stage`, or a check that counts and hashes them."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Take some rows."""


class Stage:
    """Data files of one table that no reader sees yet. Nothing is on the disk before the first row group is full.

    Attributes:
        waiting_bytes: how much is kept in memory for the next row group.

    Args:
        tables: the warehouse.
        name: name of the table.
        schema: schema of the table, partition column included.
        replacement: the rows that the commit will replace.
        run_id: prefix of the file names. What a killed try of the same run has left is removed before the first file.
        rebuild: replace files of the date that cannot be read, instead of raising an error. The caller then stages
            every row that they may have held.
    """

    def __init__(  # noqa: PLR0913  what is staged, and by whom
        self,
        tables: Tables,
        name: str,
        schema: pa.Schema,
        replacement: Replacement,
        run_id: str,
        *,
        rebuild: bool = False,
    ) -> None:
        self._tables = tables
        self._name = name
        self._store = tables.store
        self._path = tables.store.at(name)
        self._rebuild = rebuild
        self._schema = schema
        self._file_schema = pa.schema([f.remove_metadata() for f in schema if f.name != PARTITION])
        self._replacement = replacement
        self._partition = partition_of(replacement.snapshot_date)
        self._run_id = run_id
        self._is_prepared = False
        self._file: DataFile | None = None
        self._staged_schema: pa.Schema | None = None
        self._unique: frozenset[str] = frozenset()
        self._waiting: list[pa.RecordBatch] = []
        self.waiting_bytes = 0
        self._staged: list[Written] = []

    def replace(self, values: tuple[str, ...]) -> None:
        """Say anew which values of the column the commit will replace."""
        self._replacement = Replacement(self._replacement.snapshot_date, self._replacement.column, values)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows, whose texts may be dictionaries. They are durable only after `commit`."""
        if not batch.num_rows:
            return
        if self._staged_schema is None:
            # Texts that repeat in the first batch repeat in the others of the same run.
            sample = batch.select(self._file_schema.names)
            self._staged_schema, self._unique = _study(sample, self._file_schema)
        columns = [
            batch[field.name].dictionary_encode() if pa.types.is_dictionary(field.type) else batch[field.name]
            for field in self._staged_schema
        ]
        self._waiting.append(pa.RecordBatch.from_arrays(columns, schema=self._staged_schema))
        self.waiting_bytes += self._waiting[-1].nbytes
        if self.waiting_bytes >= _ROW_GROUP_BYTES:
            self.write_row_group()

    def commit(self, app_id: str, number: int) -> None:
        """Replace the rows of the replacement by the staged rows, as `Commit.land` does."""
        files = self.finish()
        commit = Commit(self._tables, self._name, self._schema, self._replacement, self._run_id, self._rebuild)
        try:
            commit.land(files, app_id, number)
        except CommitConflictError:
            self.discard()
            raise

    def adopt(self, files: Iterable[Written]) -> None:
        """Take over whole files that others, with another prefix, have staged for the same table and date."""
        self._staged.extend(files)

    def finish(self) -> list[Written]:
        """Write what waits, and return all staged files, whole and durable. Whoever empties the list owns them.

        Raises:
            StorageError: the disk refused.
        """
        with storage_errors(self._path):
            self._prepare()
            self._close_file()
        return self._staged

    def give_away(self) -> tuple[Written, ...]:
        """Return what `finish` returns. From now on, the caller owns the files."""
        files = tuple(self.finish())
        self._staged.clear()
        return files

    def discard(self) -> None:
        """Remove the staged files, except those that are or may be part of the table."""
        self._waiting, self.waiting_bytes = [], 0
        if self._file is not None:
            self._file.abandon()
            self._file = None
        self._store.discard(file.name for file in self._staged)
        self._staged.clear()

    def _prepare(self) -> None:
        """Make the directory of the date, and remove the files that a killed try of the same run has left there.

        In an object store, they wait for `vacuum`: to look for them would cost a request for each table and night.
        """
        if self._is_prepared or not self._store.local:
            return
        partition = self._store.local / self._name / self._partition
        partition.mkdir(parents=True, exist_ok=True)
        live = self._tables.files(self._name, self._replacement.snapshot_date)
        leftovers = [file for file in partition.glob(f"{self._run_id}-*") if str(file) not in live]
        if leftovers:
            # Files that any log entry names stay: a catalog that is open may still read them.
            log_text = "".join(entry.read_text() for entry in (self._store.local / self._name / LOG).glob("*.json"))
            remove_files(file for file in leftovers if file.name not in log_text)
        self._is_prepared = True

    def write_row_group(self) -> None:
        """Write the waiting batches as one row group: small row groups cost more space and time.

        Raises:
            StorageError: the disk refused.
        """
        if not self._waiting:
            return
        with storage_errors(self._path):
            if self._file is None:
                self._prepare()
                new = new_file(self._store, self._name, self._replacement.snapshot_date, self._run_id)
                self._file = DataFile(self._store, new, self._waiting[0].schema, self._unique)
            rows = pa.Table.from_batches(self._waiting).unify_dictionaries()
            self._waiting, self.waiting_bytes = [], 0
            self._file.write(rows)
            del rows
            pa.default_memory_pool().release_unused()  # or the next row group would lie beside it
            if self._file.size_so_far() > _FILE_BYTES:
                self._close_file()

    def _close_file(self) -> None:
        self.write_row_group()
        if self._file is not None:
            self._staged.append(self._file.close())
            self._file = self._staged_schema = None


def make_room(stages: Collection[Stage]) -> None:
    """Write row groups until all stages together keep no more in memory than one of them may."""
    while sum(stage.waiting_bytes for stage in stages) > _ROW_GROUP_BYTES:
        max(stages, key=lambda stage: stage.waiting_bytes).write_row_group()


def _study(sample: pa.RecordBatch, schema: pa.Schema) -> tuple[pa.Schema, frozenset[str]]:
    """Return a schema with dictionaries for texts that repeat in a sample, and the columns whose values hardly do.

    Dictionaries save memory; the files stay the same.
    """
    import pyarrow.compute as pc  # noqa: PLC0415  so that `status` is quick

    def distinct_in(column: pa.Array) -> int:
        values = column.indices if pa.types.is_dictionary(column.type) else column
        return int(pc.count_distinct(values, mode="only_valid").as_py())

    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    instants = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    distinct = {name: distinct_in(sample[name]) for name in (*texts, *instants)}
    repeating = {name for name in texts if distinct[name] <= _REPEATING * sample.num_rows}
    kind = pa.dictionary(pa.int32(), pa.string())
    fields = [field.with_type(kind) if field.name in repeating else field for field in schema]
    unique = {
        name for name, count in distinct.items() if count > _UNIQUE * (len(sample[name]) - sample[name].null_count)
    }
    return pa.schema(fields), frozenset(unique if sample.num_rows >= _TELLING_ROWS else ())
