"""Data files that no reader sees yet, and the commit that shows all of them at once.

Invariant: everything that a log entry names is on the disk before the entry exists, and a commit replaces exactly the
rows that its `Replacement` names, on top of the table version that it has read. `Stage.commit` works in this order:

1. Sync the data files and their directories. A crash after it leaves files that no log entry names. The next stage of
   the same run removes them. If the commit came first, a power loss could leave a log entry whose files are empty.
2. Commit. A kill after it leaves a complete commit. A power loss may keep it, undo it, or leave part of its log entry,
   which `mend` sets aside. The next try looks into the log, and commits only if the commit is not there.
3. Sync the log entry. A crash after it leaves a durable commit.

The log entry carries a transaction id. Without it, the next try could not know whether its commit has landed. If the
answer to a commit is lost, the commit may have landed, so nothing is deleted: removing the staged files would remove
rows that readers see. `max_commit_retries=0` keeps deltalake from committing on top of a version that was not read,
because that would remove rows that another machine has just added.
"""

import datetime as dt
import json
import logging
import uuid
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import Protocol

import pyarrow as pa
from deltalake import DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from etl.errors import CommitConflictError, CommitUnknownError, StorageError, WarehouseError
from etl.events import reach
from etl.load.delta.log import LOG, NO_HOOKS, append_entry, place_of, said, sync_log, sync_names, write_checkpoint
from etl.load.delta.parquet import DataFile, data_file, fill, read_batches
from etl.load.delta.tables import (
    CONFIGURATION,
    PARTITION,
    FileFacts,
    Replacement,
    Tables,
    data_files,
    tells_nulls,
)
from etl.storage.disk import remove_files, storage_errors
from etl.storage.store import Store

log = logging.getLogger(__name__)

_ROW_GROUP_ROWS = 122_880
_ROW_GROUP_BYTES = 24 * 1024 * 1024
"""Size in memory, with repeated texts as dictionaries."""
_REPEATING, _UNIQUE = 0.5, 0.9
"""Distinct values to all, up to which a dictionary is worth its while in memory, and from which on it is not in a file.
"""
_TELLING_ROWS = 256
_FILE_BYTES = 256 * 1024 * 1024
_MOST_FILES = 8
"""Of a date, from which on a commit makes one file of them."""
_COMMIT_TRIES = 5
_CHECKPOINT_COMMITS = 10
"""Keeps opening a table fast: a publication opens its tables dozens of times, each time from the last checkpoint on."""


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
        self._partition = f"{PARTITION}={replacement.snapshot_date.isoformat()}"
        self._run_id = run_id
        self._is_prepared = False
        self._file: DataFile | None = None
        self._staged_schema: pa.Schema | None = None
        self._unique: frozenset[str] = frozenset()
        self._waiting: list[pa.RecordBatch] = []
        self.waiting_bytes = 0
        self._staged: list[DataFile] = []

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
        """Replace the rows of the replacement by the staged rows, in one atomic commit that is durable on return.

        If there are neither rows to replace nor staged ones, nothing is committed. A replacement without values makes
        one file of those of the date.

        Args:
            app_id: name of the writer in the log; with `number` it is the transaction id.
            number: rises with each commit of the writer. If the log has it already, nothing is committed again.

        Raises:
            WarehouseError: a file of the date cannot be read, or a column has another type than in the table.
            CommitConflictError: other writers were faster each time. Nothing has changed.
            CommitUnknownError: the commit may have landed. The next run finds out.
            StorageError: the disk refused. If it refused only the last sync, the next run finds the commit.
        """
        with storage_errors(self._path):
            self._prepare()
            self._close_file()
        self._ensure_table()
        tried: list[DataFile] = []  # what former tries have carried over
        for tries in range(_COMMIT_TRIES + 1):
            table = self._tables.take(self._name)
            assert table is not None
            before = table.version()
            is_there = self._tables.transaction_in(self._name, table, app_id) >= number
            self._drop_unnamed(table if is_there else None, tried)
            if is_there:  # as a former job has left it; or it has landed, and its answer was lost
                self._tables.give_back(self._name, table)
                sync_log(self._store, self._name)
                return
            if tries == _COMMIT_TRIES:
                break
            existing = data_files(table).get(self._replacement.snapshot_date, [])
            with storage_errors(self._path):
                replaced = [name for name in existing if self._replaces_rows_of(name)]
                if not self._staged and not replaced:
                    self._tables.give_back(self._name, table)
                    return
                if len(existing) > _MOST_FILES:
                    replaced = existing
                carried = self._carry_over(replaced, pa.schema(table.schema().to_arrow()))
                sync_names(self._store, self._name, self._partition)
            reach("table.synced")
            try:
                append_entry(
                    self._store,
                    self._name,
                    table,
                    Schema.from_arrow(self._schema),
                    [*map(self._add, [*self._staged, *carried]), *map(self._remove, replaced)],
                    self._run_id,
                    Transaction(app_id, number),
                )
            except CommitFailedError:
                # Another commit has taken the version number or removed the same files. In an object store, it may be
                # this one: its answer was lost, and the client has asked once more. The next try finds it in the log.
                log.info("%s: another writer was faster; trying again", self._name)
                tried = carried
                continue
            except (DeltaError, OSError) as exc:
                self._staged.clear()  # they may be part of the table now
                raise CommitUnknownError(
                    f"{self._path}: the commit failed and may have landed ({said(exc)}); nothing was deleted. "
                    "Run again: the next run looks into the log"
                ) from exc
            reach("table.committed")
            self._staged.clear()  # they are part of the table now
            sync_log(self._store, self._name, since=before)
            reach("table.durable")
            every = int(table.metadata().configuration.get("delta.checkpointInterval", _CHECKPOINT_COMMITS))
            if (before + 1) % every == 0:
                try:
                    write_checkpoint(self._store, self._name)
                except StorageError as exc:
                    log.warning("%s. The commit is durable; a later commit sums up the log", exc)
            self._tables.give_back(self._name, table)
            return
        self.discard()
        raise CommitConflictError(f"{self._path}: other writers were faster {_COMMIT_TRIES} times; run again")

    def _drop_unnamed(self, landed: DeltaTable | None, carried: Sequence[DataFile]) -> None:
        """Remove what former tries have carried over; if a commit has landed, what is staged and not part of it too."""
        named = {file for files in data_files(landed).values() for file in files} if landed else set()
        left = [*carried, *(self._staged if landed else ())]
        self._store.discard(one.name for one in left if one.name.removeprefix(f"{self._path}/") not in named)
        if landed:
            self._staged.clear()

    def _ensure_table(self) -> None:
        """Make the table if it is new, and add the columns that it lacks. Raises as `commit` says."""
        for _ in range(_COMMIT_TRIES):
            try:
                return self._make_or_widen()
            except CommitFailedError:
                log.info("%s: another writer changed the columns at the same time; trying again", self._name)
            except (DeltaError, OSError) as exc:
                raise StorageError.at(self._path, said(exc)) from exc
        raise CommitConflictError(f"{self._path}: other writers changed the columns {_COMMIT_TRIES} times; run again")

    def _make_or_widen(self) -> None:
        table, schema = self._tables.take(self._name), Schema.from_arrow(self._schema)
        if table is None:
            DeltaTable.create(
                place_of(self._store, self._name),
                schema=schema,
                mode="ignore",
                partition_by=[PARTITION],
                configuration=CONFIGURATION,
            )
            sync_log(self._store, self._name)
            return
        types = {field.name: str(field.type) for field in table.schema().fields}
        for field in schema.fields:
            if types.get(field.name, str(field.type)) != str(field.type):
                raise WarehouseError(
                    f"{self._path}: column {field.name} is {types[field.name]} in the table; the service model now "
                    f"says {field.type}. Move the table away to begin a new one"
                )
        before, missing = table.version(), [field for field in schema.fields if field.name not in types]
        if missing:
            table.alter.add_columns(missing, post_commithook_properties=NO_HOOKS)
        if not tells_nulls(table):
            table.alter.set_table_properties(CONFIGURATION, post_commithook_properties=NO_HOOKS)
        if table.version() != before:
            sync_log(self._store, self._name, since=before)
        self._tables.give_back(self._name, table)

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

    def _new_name(self) -> str:
        return self._store.at(self._name, self._partition, f"{self._run_id}-{uuid.uuid4().hex}.parquet")

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
                self._file = DataFile(self._store, self._new_name(), self._waiting[0].schema, self._unique)
            rows = pa.Table.from_batches(self._waiting).unify_dictionaries()
            self._waiting, self.waiting_bytes = [], 0
            self._file.write(rows)
            if self._file.size_so_far() > _FILE_BYTES:
                self._close_file()

    def _close_file(self) -> None:
        self.write_row_group()
        if self._file is not None:
            self._file.close()
            self._staged.append(self._file)
            self._file = self._staged_schema = None

    def _replaces_rows_of(self, name: str) -> bool:
        """Tell whether this commit replaces rows of a data file. The other files stay as they are.

        Raises:
            WarehouseError: the file cannot be read.
        """
        import pyarrow.compute as pc  # noqa: PLC0415  so that `status` is quick

        values = pa.array(self._replacement.values, pa.string())
        try:
            batches = read_batches(self._store, f"{self._path}/{name}", [self._replacement.column])
            return not len(values) or any(pc.any(pc.is_in(batch.column(0), values)).as_py() for batch in batches)
        except WarehouseError:
            if not self._rebuild:
                raise
            return True

    def _carry_over(self, replaced: Sequence[str], schema: pa.Schema) -> list[DataFile]:
        """Write the rows of files of which this commit replaces others into one new file, if there are any.

        `schema` is the table's: it may have columns that this run does not know.
        """
        if not replaced:
            return []
        kept = self._kept(replaced, pa.schema([f.remove_metadata() for f in schema if f.name != PARTITION]))
        first = next(kept, None)
        if first is None:
            return []
        with data_file(self._store, self._new_name(), first.schema) as file:
            for batch in chain([first], kept):
                file.write(batch, _ROW_GROUP_ROWS)
        return [file]

    def _kept(self, names: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield the rows of files that this commit does not replace; raise a WarehouseError if a file is damaged.

        Checksums are verified: otherwise a damaged page would be written again with a correct checksum.
        """
        import pyarrow.compute as pc  # noqa: PLC0415  so that `status` is quick

        replaced = pa.array(self._replacement.values, pa.string())
        for name in names:
            file = f"{self._path}/{name}"
            try:
                for batch in read_batches(self._store, file, None):
                    gone = pc.is_in(batch[self._replacement.column], replaced)
                    kept = batch.filter(pc.invert(gone)) if len(replaced) else batch
                    if kept.num_rows:
                        yield fill(kept, schema, {})
            except WarehouseError as exc:
                if self._rebuild:
                    log.warning("%s: cannot be read; its rows are written again", file)
                    continue
                raise WarehouseError(f"{exc}; rows of other slices would be lost") from exc

    def _add(self, file: DataFile) -> AddAction:
        return add_action(file.name.removeprefix(f"{self._path}/"), FileFacts(file.size, file.rows, file.nulls))

    def _remove(self, name: str) -> RemoveAction:
        return remove_action(self._store, self._name, name)


def make_room(stages: Collection[Stage]) -> None:
    """Write row groups until all stages together keep no more in memory than one of them may."""
    while sum(stage.waiting_bytes for stage in stages) > _ROW_GROUP_BYTES:
        max(stages, key=lambda stage: stage.waiting_bytes).write_row_group()


def add_action(name: str, facts: FileFacts) -> AddAction:
    """Return what a log entry says about a data file that becomes part of a table. The file must exist."""
    told = {"numRecords": facts.rows, **({"nullCount": facts.nulls} if facts.nulls else {})}
    return AddAction(
        path=name,
        size=facts.size,
        partition_values=_partition_values(name),
        modification_time=int(dt.datetime.now(dt.UTC).timestamp() * 1000),
        data_change=True,
        stats=json.dumps(told),
    )


def remove_action(store: Store, table: str, name: str) -> RemoveAction:
    """Return what a log entry says about a data file that is no longer part of a table. The file may be missing."""
    ((_, size),) = store.sizes([store.at(table, name)])
    return RemoveAction(
        path=name,
        data_change=True,
        deletion_timestamp=int(dt.datetime.now(dt.UTC).timestamp() * 1000),
        size=size or 0,
        partition_values=_partition_values(name),
    )


def _partition_values(name: str) -> dict[str, str | None]:
    return {PARTITION: name.partition("/")[0].removeprefix(f"{PARTITION}=")}


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
