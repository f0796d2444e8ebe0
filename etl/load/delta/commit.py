"""The commit that replaces rows of a date by those in staged files, all at once.

Invariant: everything that a log entry names is on the disk before the entry exists, and a commit replaces exactly the
rows that its `Replacement` names, on top of the table version that it has read. `Commit.land` works in this order:

1. Sync the directories of the data files, which are durable themselves. A crash after it leaves files that no log entry
   names. The next stage of the same run removes them. If the commit came first, a power loss could leave a log entry
   whose files are empty.
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa
from deltalake import DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from etl.errors import CommitConflictError, CommitUnknownError, StorageError, WarehouseError
from etl.events import reach
from etl.load.delta.log import NO_HOOKS, append_entry, place_of, said, sync_log, sync_names, write_checkpoint
from etl.load.delta.parquet import Written, fill, read_batches, write_file
from etl.load.delta.tables import (
    CONFIGURATION,
    PARTITION,
    FileFacts,
    Replacement,
    Tables,
    data_files,
    tells_nulls,
)
from etl.storage.disk import storage_errors
from etl.storage.store import Store

log = logging.getLogger(__name__)

_ROW_GROUP_ROWS = 122_880
_MOST_FILES = 8
"""Of a date, from which on a commit makes one file of them."""
_COMMIT_TRIES = 5
_CHECKPOINT_COMMITS = 10
"""Keeps opening a table fast: a publication opens its tables dozens of times, each time from the last checkpoint on."""


@dataclass(frozen=True)
class Commit:
    """One commit to one table.

    Attributes:
        tables: the warehouse.
        name: name of the table.
        schema: schema of the table, partition column included.
        replacement: the rows that are replaced.
        run_id: of the run that commits; the names of files begin with it.
        rebuild: replace files of the date that cannot be read, instead of raising an error. The staged files then have
            every row that these may have held.
    """

    tables: Tables
    name: str
    schema: pa.Schema
    replacement: Replacement
    run_id: str
    rebuild: bool = False

    @property
    def _store(self) -> Store:
        return self.tables.store

    @property
    def _path(self) -> str:
        return self._store.at(self.name)

    def land(self, staged: list[Written], app_id: str, number: int) -> None:
        """Replace the rows of the replacement by those of staged files, in one atomic commit that is durable on return.

        If there are neither rows to replace nor staged ones, nothing is committed. A replacement without values makes
        one file of those of the date.

        Args:
            staged: whole files in the directory of the date. The list is empty afterwards if they are, or may be, part
                of the table, or if a former job has committed.
            app_id: name of the writer in the log; with `number` it is the transaction id.
            number: rises with each commit of the writer. If the log has it already, nothing is committed again.

        Raises:
            WarehouseError: a file of the date cannot be read, or a column has another type than in the table.
            CommitConflictError: other writers were faster each time. Nothing has changed.
            CommitUnknownError: the commit may have landed. The next run finds out.
            StorageError: the disk refused. If it refused only the last sync, the next run finds the commit.
        """
        self._ensure_table()
        tried: list[Written] = []  # what former tries have carried over
        for tries in range(_COMMIT_TRIES + 1):
            table = self.tables.take(self.name)
            assert table is not None
            before = table.version()
            is_there = self.tables.transaction_in(self.name, table, app_id) >= number
            self._drop_unnamed(table if is_there else None, staged, tried)
            if is_there:  # as a former job has left it; or it has landed, and its answer was lost
                self.tables.give_back(self.name, table)
                sync_log(self._store, self.name)
                return
            if tries == _COMMIT_TRIES:
                break
            existing = data_files(table).get(self.replacement.snapshot_date, [])
            with storage_errors(self._path):
                replaced = [name for name in existing if self._replaces_rows_of(name)]
                if not staged and not replaced:
                    self.tables.give_back(self.name, table)
                    return
                if len(existing) > _MOST_FILES:
                    replaced = existing
                carried = self._carry_over(replaced, pa.schema(table.schema().to_arrow()))
                sync_names(self._store, self.name, partition_of(self.replacement.snapshot_date))
            reach("table.synced")
            try:
                append_entry(
                    self._store,
                    self.name,
                    table,
                    Schema.from_arrow(self.schema),
                    [*map(self._add, [*staged, *carried]), *map(self._remove, replaced)],
                    self.run_id,
                    Transaction(app_id, number),
                )
            except CommitFailedError:
                # Another commit has taken the version number or removed the same files. In an object store, it may be
                # this one: its answer was lost, and the client has asked once more. The next try finds it in the log.
                log.info("%s: another writer was faster; trying again", self.name)
                tried = carried
                continue
            except (DeltaError, OSError) as exc:
                staged.clear()  # they may be part of the table now
                raise CommitUnknownError(
                    f"{self._path}: the commit failed and may have landed ({said(exc)}); nothing was deleted. "
                    "Run again: the next run looks into the log"
                ) from exc
            reach("table.committed")
            staged.clear()  # they are part of the table now
            sync_log(self._store, self.name, since=before)
            reach("table.durable")
            every = int(table.metadata().configuration.get("delta.checkpointInterval", _CHECKPOINT_COMMITS))
            if (before + 1) % every == 0:
                try:
                    write_checkpoint(self._store, self.name)
                except StorageError as exc:
                    log.warning("%s. The commit is durable; a later commit sums up the log", exc)
            self.tables.give_back(self.name, table)
            return
        raise CommitConflictError(f"{self._path}: other writers were faster {_COMMIT_TRIES} times; run again")

    def _drop_unnamed(self, landed: DeltaTable | None, staged: list[Written], carried: Sequence[Written]) -> None:
        """Remove what former tries have carried over; if a commit has landed, what is staged and not part of it too."""
        named = {file for files in data_files(landed).values() for file in files} if landed else set()
        left = [*carried, *(staged if landed else ())]
        self._store.discard(one.name for one in left if one.name.removeprefix(f"{self._path}/") not in named)
        if landed:
            staged.clear()

    def _ensure_table(self) -> None:
        """Make the table if it is new, and add the columns that it lacks. Raises as `commit` says."""
        for _ in range(_COMMIT_TRIES):
            try:
                return self._make_or_widen()
            except CommitFailedError:
                log.info("%s: another writer changed the columns at the same time; trying again", self.name)
            except (DeltaError, OSError) as exc:
                raise StorageError.at(self._path, said(exc)) from exc
        raise CommitConflictError(f"{self._path}: other writers changed the columns {_COMMIT_TRIES} times; run again")

    def _make_or_widen(self) -> None:
        table, schema = self.tables.take(self.name), Schema.from_arrow(self.schema)
        if table is None:
            DeltaTable.create(
                place_of(self._store, self.name),
                schema=schema,
                mode="ignore",
                partition_by=[PARTITION],
                configuration=CONFIGURATION,
            )
            sync_log(self._store, self.name)
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
            sync_log(self._store, self.name, since=before)
        self.tables.give_back(self.name, table)

    def _replaces_rows_of(self, name: str) -> bool:
        """Tell whether this commit replaces rows of a data file. The other files stay as they are.

        Raises:
            WarehouseError: the file cannot be read.
        """
        import pyarrow.compute as pc  # noqa: PLC0415  so that `status` is quick

        values = pa.array(self.replacement.values, pa.string())
        try:
            batches = read_batches(self._store, f"{self._path}/{name}", [self.replacement.column])
            return not len(values) or any(pc.any(pc.is_in(batch.column(0), values)).as_py() for batch in batches)
        except WarehouseError:
            if not self.rebuild:
                raise
            return True

    def _carry_over(self, replaced: Sequence[str], schema: pa.Schema) -> list[Written]:
        """Write the rows of files of which this commit replaces others into one new file, if there are any.

        `schema` is the table's: it may have columns that this run does not know.
        """
        if not replaced:
            return []
        kept = self._kept(replaced, pa.schema([f.remove_metadata() for f in schema if f.name != PARTITION]))
        first = next(kept, None)
        if first is None:
            return []
        new = new_file(self._store, self.name, self.replacement.snapshot_date, self.run_id)
        return [write_file(self._store, new, first.schema, chain([first], kept), _ROW_GROUP_ROWS)]

    def _kept(self, names: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield the rows of files that this commit does not replace; raise a WarehouseError if a file is damaged.

        Checksums are verified: otherwise a damaged page would be written again with a correct checksum.
        """
        import pyarrow.compute as pc  # noqa: PLC0415  so that `status` is quick

        replaced = pa.array(self.replacement.values, pa.string())
        for name in names:
            file = f"{self._path}/{name}"
            try:
                for batch in read_batches(self._store, file, None):
                    gone = pc.is_in(batch[self.replacement.column], replaced)
                    kept = batch.filter(pc.invert(gone)) if len(replaced) else batch
                    if kept.num_rows:
                        yield fill(kept, schema, {})
            except WarehouseError as exc:
                if self.rebuild:
                    log.warning("%s: cannot be read; its rows are written again", file)
                    continue
                raise WarehouseError(f"{exc}; rows of other slices would be lost") from exc

    def _add(self, file: Written) -> AddAction:
        return add_action(file.name.removeprefix(f"{self._path}/"), FileFacts(file.size, file.rows, dict(file.nulls)))

    def _remove(self, name: str) -> RemoveAction:
        return remove_action(self._store, self.name, name)


def partition_of(date: dt.date) -> str:
    """Return the name of the directory with the data files of a date."""
    return f"{PARTITION}={date.isoformat()}"


def new_file(store: Store, table: str, date: dt.date, run_id: str) -> str:
    """Return a name for a data file that no file has had before."""
    return store.at(table, partition_of(date), f"{run_id}-{uuid.uuid4().hex}.parquet")


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
