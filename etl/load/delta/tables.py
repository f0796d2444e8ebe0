"""Delta tables: stage data files, commit them at once, read back what was committed. The only importer of deltalake.

A commit replaces exactly the rows of the slices (or of the run) it names, within one snapshot date. Its data files
are synced before the commit and the commit itself before `commit` returns, because neither pyarrow nor deltalake
calls fsync: whatever the log names after a power loss is on the disk. A commit carries a transaction id, so that one
which landed without our knowing is recognised and not repeated.
"""

import datetime as dt
import json
import logging
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from etl.errors import CommitConflictError, CommitUnknownError, StorageError, WarehouseError
from etl.failpoints import reach
from etl.load.delta.parquet import DataFile, read_batches, read_file
from etl.storage.disk import remove_files, storage_errors, sync_directory, sync_file

log = logging.getLogger(__name__)

PARTITION = "snapshot_date"
_ROW_GROUP_ROWS = 122_880
_ROW_GROUP_BYTES = 24 * 1024 * 1024
"""In memory, repeated texts as dictionaries."""
_FILE_BYTES = 256 * 1024 * 1024
_COMMIT_TRIES = 5
_CHECKPOINT_COMMITS = 10
"""As Delta has it: a publication opens its tables dozens of times, and reads what came since the last one each time."""
_CONFIGURATION = {"delta.dataSkippingNumIndexedCols": "-1"}
"""The log says of every column, not only of the first 32, how many values of a file are null."""
_ASIDE = "_checkpoint-"
_LEFT_AFTER_S = 3600
_LOG_ENTRY = re.compile(r"[0-9]{20}\.json")
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
"""deltalake would write a checkpoint, sync nothing, and remove the log entries that it sums up: a power loss then could
leave neither."""
_READER_VERSION, _WRITER_VERSION = 1, 2
"""Of the Delta protocol. Above them a data file alone no longer says which rows it has, and by which names."""
_EXPECTED = (
    f"expected reader version {_READER_VERSION}, writer version {_WRITER_VERSION} of the Delta protocol. "
    "Use a newer nimble-etl, or move the table away to begin a new one"
)
_PROVEN = pads.ParquetFileFormat(
    default_fragment_scan_options=pads.ParquetFragmentScanOptions(page_checksum_verification=True)
)
"""Parquet, its page checksums proven while it is read."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """What a commit replaces: the rows of one date whose `column` is one of `values`."""

    snapshot_date: dt.date
    column: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the log says of a data file: its size in bytes, its rows, how many values of each of its columns are null.

    `nulls` is empty of files whose writer did not tell.
    """

    size: int
    rows: int
    nulls: dict[str, int]


@dataclass(frozen=True, slots=True)
class Committed:
    """A table as of one version: its schema and data files (absolute paths), by snapshot date.

    `facts` are those of every file, where `Tables.read` was asked for them.
    """

    name: str
    version: int
    schema: pa.Schema
    files: dict[dt.date, list[str]]
    facts: dict[str, FileFacts] = field(default_factory=dict)


class Stage:
    """Data files of one table that no reader sees yet.

    Args:
        tables: the warehouse.
        name: of the table.
        schema: schema of the table, partition column included.
        replacement: what the commit will replace.
        run_id: begins the names of the files.
        rebuild: let existing files go that cannot be read.
    """

    def __init__(  # noqa: PLR0913  as `Tables.stage`, its only caller
        self, tables: "Tables", name: str, schema: pa.Schema, replacement: Replacement, run_id: str, *, rebuild: bool
    ) -> None:
        self._tables = tables
        self._name = name
        self._path = tables.path / name
        self._rebuild = rebuild
        self._schema = schema
        self._file_schema = pa.schema([f.remove_metadata() for f in schema if f.name != PARTITION])
        self._stage_schema = self._file_schema
        self._replacement = replacement
        self._run_id = run_id
        self._file: DataFile | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        self._staged: list[DataFile] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows. They are durable after `commit` only."""
        if not batch.num_rows:
            return
        with storage_errors(self._path):
            if self._file is None:
                # Of one run, most batches repeat the same texts. Which columns those are, the first one tells.
                self._stage_schema = _with_dictionaries(batch.select(self._file_schema.names), self._file_schema)
                self._file = self._new_file(self._stage_schema)
            columns = [
                batch.column(field.name).dictionary_encode()
                if pa.types.is_dictionary(field.type)
                else batch[field.name]
                for field in self._stage_schema
            ]
            self._waiting.append(pa.RecordBatch.from_arrays(columns, schema=self._stage_schema))
            self._waiting_bytes += self._waiting[-1].nbytes
            if self._waiting_bytes >= _ROW_GROUP_BYTES:
                self._write_row_group()
                if self._file.path.stat().st_size > _FILE_BYTES:
                    self._close_file()

    def commit(self, app_id: str, number: int) -> None:
        """Make the staged rows what readers see of the replacement, in one step.

        Args:
            app_id: names the writer of this commit in the log.
            number: rises with every commit of that writer; a commit found in the log is not repeated.

        Raises:
            CommitConflictError: other writers were faster, again and again. Nothing has changed.
            CommitUnknownError: it may have landed; the next run finds out.
            StorageError: the disk refused. Nothing has changed.
        """
        with storage_errors(self._path):
            self._close_file()
        self._ensure_table()
        for _ in range(_COMMIT_TRIES):
            table = self._tables.take(self._name)
            assert table is not None
            before = table.version()
            if (table.transaction_version(app_id) or 0) >= number:
                self.discard()
                _sync_log(self._path)
                return
            existing = _data_files(table).get(self._replacement.snapshot_date, [])
            with storage_errors(self._path):
                carried = self._carry_over(existing, pa.schema(table.schema().to_arrow()))
                _sync_names(self._partition)
            reach("table.synced")
            try:
                table.create_write_transaction(
                    [*map(self._add, [*self._staged, *carried]), *map(self._remove, existing)],
                    mode="append",
                    schema=Schema.from_arrow(self._schema),
                    partition_by=[PARTITION],
                    commit_properties=CommitProperties(
                        app_transactions=[Transaction(app_id, number)],
                        custom_metadata={"run_id": self._run_id},
                        max_commit_retries=0,
                    ),
                    post_commithook_properties=_NO_HOOKS,
                )
            except CommitFailedError:
                # Proven not landed: another commit took the version or the files that this one replaces.
                log.info("%s: another writer was faster; trying again", self._path.name)
                remove_files(file.path for file in carried)
                continue
            except (DeltaError, OSError) as exc:
                self._staged.clear()  # they may be part of the table now
                raise CommitUnknownError(
                    f"{self._path}: the commit failed half-way ({_first_line(exc)}); nothing was deleted. "
                    "Run again: it finds out"
                ) from exc
            reach("table.committed")
            self._staged.clear()  # they are part of the table now
            _sync_log(self._path, since=before)
            reach("table.durable")
            every = int(table.metadata().configuration.get("delta.checkpointInterval", _CHECKPOINT_COMMITS))
            if (before + 1) % every == 0:
                try:
                    _write_checkpoint(self._path)
                except StorageError as exc:
                    log.warning("%s. What was committed is durable; its log is summed up later", exc)
            self._tables.give_back(self._name, table)
            return
        self.discard()
        raise CommitConflictError(f"{self._path}: other writers were faster {_COMMIT_TRIES} times; run again")

    def _ensure_table(self) -> None:
        """Make the table if it is new, and add the columns that it lacks.

        Raises:
            WarehouseError: a column has another type than the table's; readers would break.
            CommitConflictError: other writers were faster, again and again.
            StorageError: the disk refused.
        """
        for _ in range(_COMMIT_TRIES):
            try:
                self._make_or_widen()
            except CommitFailedError:
                log.info("%s: another writer changed the columns at the same time; looking again", self._name)
            except (DeltaError, OSError) as exc:
                raise StorageError.at(self._path, _first_line(exc)) from exc
            else:
                return
        raise CommitConflictError(f"{self._path}: other writers changed the columns {_COMMIT_TRIES} times; run again")

    def _make_or_widen(self) -> None:
        table, schema = self._tables.take(self._name), Schema.from_arrow(self._schema)
        if table is None:
            DeltaTable.create(
                self._path, schema=schema, mode="ignore", partition_by=[PARTITION], configuration=_CONFIGURATION
            )
            _sync_log(self._path)
            return
        wanted = {field.name: field for field in schema.fields}
        found = {field.name: field for field in table.schema().fields}
        for name in wanted.keys() & found.keys():
            if str(wanted[name].type) != str(found[name].type):
                raise WarehouseError(
                    f"{self._path}: column {name} is {found[name].type}; the service model now says "
                    f"{wanted[name].type}. Move the table away to begin a new one"
                )
        before, missing = table.version(), [field for name, field in wanted.items() if name not in found]
        if missing:
            table.alter.add_columns(missing, post_commithook_properties=_NO_HOOKS)
        if not _tells_nulls(table):
            table.alter.set_table_properties(_CONFIGURATION, post_commithook_properties=_NO_HOOKS)
        if table.version() != before:
            _sync_log(self._path, since=before)
        self._tables.give_back(self._name, table)

    def discard(self) -> None:
        """Remove the staged files, unless they have become part of the table."""
        self._waiting, self._waiting_bytes = [], 0
        if self._file is not None:
            self._file.abandon()
            self._file = None
        remove_files(file.path for file in self._staged)
        self._staged.clear()

    @property
    def _partition(self) -> Path:
        return self._path / f"{PARTITION}={self._replacement.snapshot_date.isoformat()}"

    def _new_file(self, schema: pa.Schema) -> DataFile:
        return DataFile(self._partition / f"{self._run_id}-{uuid.uuid4().hex}.parquet", schema)

    def _write_row_group(self) -> None:
        """Write what waits as one row group: dictionaries and statistics of small ones cost more than they save."""
        if self._file is not None and self._waiting:
            rows = pa.Table.from_batches(self._waiting).unify_dictionaries()
            self._waiting, self._waiting_bytes = [], 0
            self._file.write(rows)

    def _close_file(self) -> None:
        if self._file is not None:
            self._write_row_group()
            self._file.close()
            self._staged.append(self._file)
            self._file = None

    def _carry_over(self, existing: Sequence[str], schema: pa.Schema) -> list[DataFile]:
        """Write the rows of the partition that this commit does not replace into one file of their own.

        `schema` is the table's: it may have columns that this run knows nothing of.
        """
        file: DataFile | None = None
        try:
            for batch in self._kept(existing, pa.schema([f.remove_metadata() for f in schema if f.name != PARTITION])):
                file = file or self._new_file(batch.schema)
                file.write(batch, _ROW_GROUP_ROWS)
            if file is not None:
                file.close()
        except BaseException:
            if file is not None:
                file.abandon()
            raise
        return [file] if file is not None else []

    def _kept(self, existing: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the partition that this commit does not replace.

        Checksums are proven: a damaged page would otherwise be written again, with a checksum that is right.

        Raises:
            WarehouseError: a file is missing or damaged; names it.
        """
        replaced = self._replacement.values
        keep = ~pads.field(self._replacement.column).isin(replaced) if replaced else None
        for name in existing:
            try:
                dataset = pads.dataset([str(self._path / name)], schema=schema, format=_PROVEN)
                for batch in dataset.scanner(filter=keep, use_threads=False).to_batches():
                    if batch.num_rows:
                        yield batch
            except (OSError, pa.ArrowException) as exc:
                if self._rebuild:
                    log.warning("%s: cannot be read; its rows are written anew", self._path / name)
                    continue
                raise WarehouseError(
                    f"{self._path / name}: cannot be read: {exc}; rows of other slices would be lost. "
                    f"`nimble-etl replay --since {self._replacement.snapshot_date}` writes them anew from the ledgers"
                ) from exc

    def _add(self, file: DataFile) -> AddAction:
        facts = file.path.stat()
        return AddAction(
            path=file.path.relative_to(self._path).as_posix(),
            size=facts.st_size,
            partition_values={PARTITION: self._replacement.snapshot_date.isoformat()},
            modification_time=int(facts.st_mtime * 1000),
            data_change=True,
            stats=json.dumps({"numRecords": file.rows, "nullCount": file.nulls}),
        )

    def _remove(self, name: str) -> RemoveAction:
        return RemoveAction(
            path=name,
            data_change=True,
            deletion_timestamp=int(dt.datetime.now(dt.UTC).timestamp() * 1000),
            size=_size(self._path / name),
            partition_values={PARTITION: self._replacement.snapshot_date.isoformat()},
        )


class Tables:
    """The Delta tables below one directory. To look what is new in a log costs a fraction of reading it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: dict[str, DeltaTable] = {}
        self._read: dict[str, Committed] = {}

    def stage(
        self, table: str, schema: pa.Schema, replacement: Replacement, run_id: str, *, rebuild: bool = False
    ) -> Stage:
        """Return an empty stage, after removing what an earlier, killed attempt of the same run left behind.

        With `rebuild`, all that a file of the date may hold is staged anew: one that cannot be read is let go.
        """
        path = self.path / table
        partition = path / f"{PARTITION}={replacement.snapshot_date.isoformat()}"
        with storage_errors(path):
            partition.mkdir(parents=True, exist_ok=True)
            committed = self.read(table)
            live = set(committed.files.get(replacement.snapshot_date, [])) if committed else set()
            leftovers = [file for file in partition.glob(f"{run_id}-*") if str(file) not in live]
            if leftovers:
                # A file that was part of the table once may still be named by a catalog that someone reads.
                log_text = "".join(entry.read_text() for entry in (path / "_delta_log").glob("*.json"))
                remove_files(file for file in leftovers if file.name not in log_text)
        return Stage(self, table, schema, replacement, run_id, rebuild=rebuild)

    def is_committed(self, table: str, app_id: str, number: int) -> bool:
        """Tell whether a commit is in the log of a table, durably: who made it may have died before that."""
        found = self.open(table)
        if found is None or (found.transaction_version(app_id) or 0) < number:
            return False
        _sync_log(self.path / table)
        return True

    def read(self, table: str, *, with_facts: bool = False) -> Committed | None:
        """Return the newest version of a table; None if it was never committed to."""
        path = self.path / table
        found = self.open(table)
        if found is None:
            return None
        known = self._read.get(table)
        if known is None or known.version != found.version() or (with_facts and not known.facts):
            files = {date: [f"{path}/{name}" for name in names] for date, names in _data_files(found).items()}
            facts = {f"{path}/{name}": told for name, told in _file_facts(found)} if with_facts else {}
            known = Committed(table, found.version(), pa.schema(found.schema().to_arrow()), files, facts)
            self._read[table] = known
        return known

    def open(self, table: str) -> DeltaTable | None:
        """Return the newest version of a table; None if it was never committed to.

        Raises:
            WarehouseError: it is damaged, or a newer version has written it.
        """
        found = self.take(table)
        if found is not None:
            self.give_back(table, found)
        return found

    def take(self, table: str) -> DeltaTable | None:
        """Return the newest version of a table for the caller alone, who may change it; None as `open`.

        Raises:
            WarehouseError: as `open`.
        """
        found = self._opened.pop(table, None)
        try:
            if found is not None and not _is_newest(self.path / table, found):
                found.update_incremental()
        except DeltaError:
            found = None  # what is wrong is said by whoever opens it
        found = found or _open(self.path / table)
        if found is not None:
            _check_protocol(self.path / table, found)
        return found

    def give_back(self, table: str, found: DeltaTable) -> None:
        """Keep a table for whoever asks next."""
        self._opened[table] = found

    def names(self) -> list[str]:
        """Return the names of all tables."""
        if not self.path.is_dir():
            return []
        return sorted(entry.name for entry in self.path.iterdir() if (entry / "_delta_log").is_dir())

    def mend(self) -> None:
        """Set aside what a power loss left of the newest commit of a table: it was not durable yet.

        Its name can be on the disk before what is in it. No reader can open the table then.
        """
        self._opened.clear()
        self._read.clear()
        for name in self.names():
            logs = self.path / name / "_delta_log"
            with storage_errors(logs):
                entries = _log_entries(logs)[-2:]  # a vacuum writes two before it syncs them
                torn = next((number for number, entry in enumerate(entries) if _is_torn(entry)), len(entries))
                for entry in reversed(entries[torn:]):
                    log.warning("%s: a power loss left only part of it; it is set aside", entry)
                    entry.replace(entry.with_suffix(".torn"))
                for leftover in logs.parent.glob(f"{_ASIDE}*"):
                    with suppress(FileNotFoundError):  # another machine may be at it, or remove it first
                        if time.time() - leftover.stat().st_mtime > _LEFT_AFTER_S:
                            shutil.rmtree(leftover, ignore_errors=True)

    def dates(self, table: str) -> list[dt.date]:
        """Return the dates that a table has rows for, in order."""
        committed = self.read(table)
        return sorted(committed.files) if committed else []

    def file_count(self, table: str) -> int:
        """Return the number of live data files."""
        committed = self.read(table)
        return sum(map(len, committed.files.values())) if committed else 0

    def compact(self, table: str, snapshot_date: dt.date) -> None:
        """Write the files of one date into one, if there are several: a commit that replaces nothing.

        Raises:
            WarehouseError: a file is missing or damaged.
            CommitConflictError, CommitUnknownError, StorageError: as `Stage.commit` says.
        """
        committed = self.read(table)
        if committed and len(committed.files.get(snapshot_date, [])) > 1:
            writer = f"compact-{uuid.uuid4().hex}"
            self.stage(table, committed.schema, Replacement(snapshot_date, "run_id", ()), writer).commit(
                f"nimble-etl/{writer}/{table}", 1
            )

    def drop(self, table: str, snapshot_date: dt.date) -> None:
        """Let go of all rows of a date, in one commit; their files stay for readers until `vacuum`.

        Raises:
            CommitConflictError, CommitUnknownError, StorageError: as `Stage.commit` says.
        """
        committed = self.read(table)
        if committed and (files := committed.files.get(snapshot_date)):
            slices = {
                name for file in files for rows in read_batches(file, ["slice_id"]) for name in rows[0].to_pylist()
            }
            writer = f"drop-{uuid.uuid4().hex}"
            replacement = Replacement(snapshot_date, "slice_id", tuple(sorted(slices)))
            self.stage(table, committed.schema, replacement, writer).commit(f"nimble-etl/{writer}/{table}", 1)

    def vacuum(self, table: str, grace: dt.timedelta) -> int:
        """Remove the data files that left the table, or never became part of it, longer ago than `grace`.

        Log entries go too: those that a checkpoint sums up, when they are older than the table keeps them (30 days).

        Args:
            table: its name.
            grace: rounded up to hours.

        Returns:
            How many were removed.

        Raises:
            StorageError: the disk refused.
        """
        found = self.open(table)
        if found is None:
            return 0
        before = found.version()
        try:
            removed = found.vacuum(
                math.ceil(grace / dt.timedelta(hours=1)),
                dry_run=False,
                enforce_retention_duration=False,
                full=True,
                post_commithook_properties=_NO_HOOKS,
            )
        except (DeltaError, OSError) as exc:
            raise StorageError.at(self.path / table, _first_line(exc)) from exc
        _sync_log(self.path / table, since=before)
        _write_checkpoint(self.path / table)
        try:
            DeltaTable(self.path / table).cleanup_metadata()
        except (DeltaError, OSError) as exc:
            raise StorageError.at(self.path / table, _first_line(exc)) from exc
        return len(removed)

    def rows(self, table: str, snapshot_date: dt.date, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return some columns of the rows of one date; for small tables."""
        committed = self.read(table)
        files = committed.files.get(snapshot_date, []) if committed else []
        return [row for file in files for row in read_file(file, columns).to_pylist()]

    def count(self, table: str, replacement: Replacement) -> dict[str, int]:
        """Return the committed rows of a replacement, per value of its column, as the files have them.

        Raises:
            WarehouseError: a file of the table is missing or damaged.
        """
        committed = self.read(table)
        files = committed.files.get(replacement.snapshot_date, []) if committed else []
        counts = dict.fromkeys(replacement.values, 0)
        for file in files:
            for rows in read_batches(file, [replacement.column]):
                for entry in rows.column(0).value_counts().to_pylist():
                    if entry["values"] in counts:
                        counts[entry["values"]] += entry["counts"]
        return counts

    def values(self, table: str, replacement: Replacement, column: str) -> set[Any]:
        """Return the values of a column on the committed rows of a replacement.

        Raises:
            WarehouseError: a file of the table is missing or damaged.
        """
        committed = self.read(table)
        files = committed.files.get(replacement.snapshot_date, []) if committed else []
        found: set[Any] = set()
        for file in files:
            for rows in read_batches(file, [replacement.column, column]):
                replaced = pc.is_in(rows.column(replacement.column), pa.array(replacement.values, pa.string()))
                found.update(pc.unique(rows.column(column).filter(replaced)).to_pylist())
        return found


def _sync_names(path: Path) -> None:
    """Return when the names in a directory, and in those above it up to the table's, are on the disk."""
    for directory in (path, path.parent, path.parent.parent):
        sync_directory(directory)


def _sync_log(path: Path, since: int = 0) -> None:
    """Return when the commits of a table, from one version on, are on the disk."""
    logs = path / "_delta_log"
    with storage_errors(logs):
        for entry in _log_entries(logs, since):
            sync_file(entry)
        _sync_names(logs)


def _log_entries(logs: Path, since: int = 0) -> list[Path]:
    """Return the commits of a log from one version on, oldest first."""
    names = sorted(filter(_LOG_ENTRY.fullmatch, os.listdir(logs)))  # noqa: PTH208  there are thousands
    return [logs / name for name in names if int(name[:20]) >= since]


def _is_newest(path: Path, table: DeltaTable) -> bool:
    """Tell whether the log of a table ends with the version that was read: versions have no gaps."""
    newest, following = (path / "_delta_log" / f"{table.version() + i:020}.json" for i in (0, 1))
    return newest.exists() and not following.exists()


def _tells_nulls(table: DeltaTable) -> bool:
    """Tell whether the log says of every column of a file how many values are null, as far as it was told."""
    return _CONFIGURATION.items() <= table.metadata().configuration.items()


def _write_checkpoint(path: Path) -> None:
    """Sum the log of a table up; it is durable when this returns.

    Raises:
        StorageError: the disk refused. The table is what it was.
    """
    logs = path / "_delta_log"
    try:
        # Made aside and renamed: no reader can open a table whose newest checkpoint is there by name only. Entries are
        # linked, for a log has thousands of them and they never change.
        with TemporaryDirectory(prefix=_ASIDE, dir=path, ignore_cleanup_errors=True) as aside:
            made = shutil.copytree(logs, Path(aside) / "_delta_log", copy_function=os.link)
            table = DeltaTable(aside)
            table.create_checkpoint()
            for name in (f"{table.version():020}.checkpoint.parquet", "_last_checkpoint"):
                sync_file(made / name)
                (made / name).replace(logs / name)
                sync_directory(logs)
    except (DeltaError, OSError) as exc:
        raise StorageError.at(logs, _first_line(exc)) from exc


def _is_torn(entry: Path) -> bool:
    """Tell whether a log entry is only part of what was written.

    One that is damaged otherwise is not: whoever damaged it may have damaged what was published.
    """
    text = entry.read_bytes().rstrip()
    if b"\0" in text or not text.endswith(b"}"):
        return True
    try:
        actions = {name: action for line in text.splitlines() for name, action in json.loads(line).items()}
    except ValueError:
        return False
    # It may be cut between two lines: ours end with the transaction, the first one of a table with its columns.
    ours = "run_id" in actions.get("commitInfo", {})
    return (ours and "txn" not in actions) or (int(entry.stem) == 0 and "metaData" not in actions)


def _open(path: Path) -> DeltaTable | None:
    """Return a table; None if it was never committed to.

    Raises:
        WarehouseError: it is damaged.
    """
    try:
        return DeltaTable(path)
    except TableNotFoundError:
        return None
    except DeltaError as exc:
        raise WarehouseError(
            f"{path}: the table cannot be opened: {_first_line(exc)}; {_EXPECTED}. After a power loss, run again: "
            "what it left of a commit is set aside"
        ) from exc


def _check_protocol(path: Path, table: DeltaTable) -> None:
    """Look whether this version may read and write a table.

    Raises:
        WarehouseError: a newer version has written it.
    """
    found = table.protocol()
    if found.min_reader_version > _READER_VERSION or found.min_writer_version > _WRITER_VERSION:
        raise WarehouseError(
            f"{path}: the table has reader version {found.min_reader_version}, writer version "
            f"{found.min_writer_version}; {_EXPECTED}"
        )


def _data_files(table: DeltaTable) -> dict[dt.date, list[str]]:
    """Return the live data files by date, as the log names them: relative to the table, `snapshot_date=…/….parquet`.

    Only the last two parts of a URI are used: deltalake percent-encodes those above, and not consistently.
    """
    files: dict[dt.date, list[str]] = {}
    for uri in sorted(table.file_uris()):
        partition, name = uri.rsplit("/", 2)[1:]
        files.setdefault(dt.date.fromisoformat(partition.removeprefix(f"{PARTITION}=")), []).append(
            f"{partition}/{name}"
        )
    return files


def _file_facts(table: DeltaTable) -> Iterator[tuple[str, FileFacts]]:
    """Yield the live data files, named as by `_data_files`, and what the log says of them."""
    actions = pa.table(table.get_add_actions(flatten=True))
    prefix = "null_count."
    told = [name for name in actions.schema.names if name.startswith(prefix)] if _tells_nulls(table) else []
    columns = [name.removeprefix(prefix) for name in told]
    listed = (actions[name].to_pylist() for name in ("path", "size_bytes", "num_records", *told))
    for path, size, rows, *counts in zip(*listed, strict=True):
        nulls = {name: count for name, count in zip(columns, counts, strict=True) if count is not None}
        yield "/".join(path.rsplit("/", 2)[-2:]), FileFacts(size, rows, nulls)


def _with_dictionaries(sample: pa.RecordBatch, schema: pa.Schema) -> pa.Schema:
    """Return a schema that holds texts as dictionaries where a sample says that they repeat; files are the same."""
    texts = {
        field.name
        for field, values in zip(sample.schema, sample.columns, strict=True)
        if pa.types.is_string(field.type) and 2 * pc.count_distinct(values, mode="all").as_py() <= len(values)
    }
    kind = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([field.with_type(kind) if field.name in texts else field for field in schema])


def _first_line(exc: Exception) -> str:
    """Return what an error of the storage library says, without its backtrace and its colours."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in str(exc).splitlines()]
    return ": ".join(line.removeprefix("↳ ") for line in lines if line and not re.match(r"\d+: |at ", line))


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0  # a file that is rebuilt may be lost
