"""From slices of a ledger to rows: staged for every table, counted, committed and read back."""

import datetime as dt
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pyarrow as pa

from etl.errors import CommitConflictError, WarehouseError
from etl.events import reach
from etl.ledger.ledger import Ledger
from etl.load.changes import Compared, Comparison, write_changes
from etl.load.delta.stage import Sink, Stage
from etl.load.delta.tables import Committed, Replacement, Tables
from etl.load.snapshots import after_rejects, empty_snapshots, next_snapshots, previous_snapshots
from etl.model import SliceFacts, Snapshot
from etl.pipeline.ahead import StagedRows
from etl.pipeline.counts import Counts, count
from etl.transform.batches import Flat, flatten
from etl.transform.duplicates import find_repeated
from etl.transform.schema import REJECTS, Layout

_WRITER = "nimble-etl"
"""Name of the writer in the log of every table: one for all jobs, because only one of them commits at a time."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who commits. The names of its files begin with `prefix`. `rebuild` also replaces files that cannot be read."""

    prefix: str
    rebuild: bool = False

    def stage(self, tables: Tables, table: str, schema: pa.Schema, replacement: Replacement) -> Stage:
        """Return an empty stage."""
        return Stage(tables, table, schema, replacement, self.prefix, rebuild=self.rebuild)

    def commit(self, tables: Tables, table: str, stage: Stage) -> None:
        """Commit a stage, as `Stage.commit` does."""
        stage.commit(_WRITER, tables.last_transaction(table, _WRITER) + 1)


@dataclass(frozen=True, slots=True)
class Walked:
    """A ledger, and those of its slices that are published together."""

    ledger: Ledger
    ready: Sequence[SliceFacts]


def count_slice(
    ledger: Ledger, layout: Layout, snapshot: Snapshot, facts: SliceFacts, sinks: Mapping[str, Sink]
) -> Counts:
    """Turn the records of one slice into rows, write them to the sinks, and count them.

    `sinks` has at most one sink for each table. Rows of a table without a sink are only counted.

    Raises:
        WarehouseError: a record became neither a row, nor a reject, nor a duplicate.
    """
    counts = Counts()
    for flat in flatten_slice(ledger, layout, snapshot, facts, counts):
        for table, rows in {**flat.tables, "etl_rejects": flat.rejects}.items():
            if table in sinks:
                sinks[table].write(rows)
    return counts


def flatten_slice(
    ledger: Ledger, layout: Layout, snapshot: Snapshot, facts: SliceFacts, counts: Counts
) -> Iterator[Flat]:
    """Yield the records of one slice as columns, and count them; `counts` are new ones.

    Raises:
        WarehouseError: a record became neither a row, nor a reject, nor a duplicate; raised after the last rows.
    """
    repeated = find_repeated(layout, lambda: ledger.pages(facts.slice))
    counts.duplicates = sum(map(len, repeated.superseded.values()))
    counts.ambiguous = repeated.describe(layout)
    for flat in flatten(layout, snapshot, facts.slice, ledger.pages(facts.slice), repeated):
        count(flat, layout.dataset.name, lambda _: counts)
        yield flat
    counts.check(facts)


@contextmanager
def staged(
    tables: Tables, layout: Layout, walked: Sequence[Walked], writer: Writer, ahead: StagedRows | None = None
) -> Iterator[tuple[Mapping[str, Stage], Mapping[str, Counts]]]:
    """Yield a stage of each table of a dataset with the rows of some slices of one date, and their counts by slice id.

    Nothing is committed. What is left in the stages after the block is removed. If the rows of all these slices were
    staged `ahead`, no ledger is read.

    Raises:
        WarehouseError: a record became neither a row, nor a reject, nor a duplicate.
        StorageError: the disk refused.
    """
    (date,) = {one.ledger.run().snapshot_date for one in walked}
    replacement = Replacement(date, "slice_id", _slice_ids(walked))
    there = ahead.stages if ahead else {}
    counts = dict(ahead.counts) if ahead else {}
    with ExitStack() as discarded:
        stages: dict[str, Stage] = {}
        # Rejects of all datasets share a table. The dataset's own table is the last to be committed.
        for table, schema in {"etl_rejects": REJECTS, **layout.schemas}.items():
            stages[table] = there.get(table) or writer.stage(tables, table, schema, replacement)
            discarded.callback(stages[table].discard)
        for batch in ahead.rejects if ahead else ():
            stages["etl_rejects"].write(batch)
        for one in walked:
            snapshot = Snapshot(one.ledger.run().run_id, date, layout.dataset, layout.operation)
            for facts in one.ready:
                if ahead:
                    counts[facts.slice.slice_id].check(facts)
                else:
                    counts[facts.slice.slice_id] = count_slice(one.ledger, layout, snapshot, facts, stages)
        yield stages, counts


def _slice_ids(walked: Sequence[Walked]) -> tuple[str, ...]:
    return tuple(facts.slice.slice_id for one in walked for facts in one.ready)


def write_slices(  # noqa: PLR0913, PLR0917  what, where, by whom, and what is there already
    tables: Tables,
    layout: Layout,
    walked: Sequence[Walked],
    writer: Writer,
    before_commit: Callable[[Mapping[str, Counts]], None] = lambda _: None,
    ahead: StagedRows | None = None,
) -> Mapping[str, Counts]:
    """Replace slices of one date in every table of a dataset, read them back, and return their counts by slice id.

    The change log is left to `log_changes`. `before_commit` is called with the counts once everything is staged. If it
    raises, nothing was committed. If the rows of all these slices were staged `ahead`, no ledger is read.

    Raises:
        WarehouseError: the rows that were read back are not those that were written.
        CommitConflictError: other writers were faster, or have replaced what was committed.
        CommitUnknownError: a commit may have landed.
        StorageError: the disk refused.
    """
    with staged(tables, layout, walked, writer, ahead) as (stages, counts):
        reach("table.staged")
        before_commit(counts)
        for table, stage in stages.items():
            writer.commit(tables, table, stage)
    (date,) = {one.ledger.run().snapshot_date for one in walked}
    expected = {table: {name: one.tables.get(table, 0) for name, one in counts.items()} for table in stages}
    replacement = Replacement(date, "slice_id", _slice_ids(walked))
    _read_back(tables, replacement, expected, {one.ledger.run().run_id for one in walked})
    reach("snapshot.read_back")
    return counts


def log_changes(  # noqa: PLR0913, PLR0917  what, where, by whom, and what is there already
    tables: Tables,
    layout: Layout,
    walked: Sequence[Walked],
    writer: Writer,
    anyway: Container[tuple[dt.date, str]] = (),
    changes: Stage | None = None,
) -> None:
    """Log how complete, unfiltered snapshots differ from those before them, and how the next ones differ from them.

    `anyway` has the date and slice id of snapshots that are logged by later calls. `changes` has what `stage_changes`
    has found of the slices.

    Raises:
        As `write_slices`.
    """
    (date,) = {one.ledger.run().snapshot_date for one in walked}
    slice_ids = [facts.slice.slice_id for one in walked for facts in one.ready if is_logged(facts)]
    by_date = {date: _dates_before(tables, date, slice_ids)}
    for name, (later, _) in next_snapshots(tables, date, slice_ids).items():
        by_date.setdefault(later, {})[name] = date
    # Later dates first: for a date that retention has removed, the log itself is read, as it was before this one.
    for snapshot_date, previous_dates in sorted(by_date.items(), reverse=True):
        if not previous_dates:
            continue
        if changes and snapshot_date == date:
            writer.commit(tables, layout.changes_table, changes)
            continue
        comparison = _comparison(tables, layout, date, snapshot_date, previous_dates)
        write_log(tables, layout.changes_table, layout.changes, *_compared(layout), comparison, writer)
    for later in sorted(by_date.keys() - {date}):
        for snapshot_date, previous_dates in after_rejects(tables, later, by_date[later], anyway):
            comparison = _comparison(tables, layout, dt.date.min, snapshot_date, previous_dates)
            write_log(tables, layout.changes_table, layout.changes, *_compared(layout), comparison, writer)


def stage_changes(  # noqa: PLR0913, PLR0917  as `log_changes`
    tables: Tables,
    layout: Layout,
    date: dt.date,
    facts: Sequence[SliceFacts],
    files: Mapping[str, Sequence[str]],
    stage: Stage,
) -> dict[str, int]:
    """Find how snapshots differ from those before them whose data files, by table, are not committed yet.

    Return the versions of the tables that they were compared with; -1 for one that is not there.

    Raises:
        WarehouseError: a data file is missing or damaged.
    """
    names = (layout.dataset.name, layout.changes_table, "etl_rejects", "etl_slices")
    found = {name: tables.read(name) for name in names}
    slice_ids = [one.slice.slice_id for one in facts if is_logged(one)]
    stage.replace(tuple(slice_ids))
    if slice_ids:
        previous_dates = _dates_before(tables, date, slice_ids)
        schemas = {layout.dataset.name: layout.schema, "etl_rejects": REJECTS}
        table, rejects = (
            (found[name] or Committed(tables.store, name, -1, schema, {})).with_files(date, files[name])
            for name, schema in schemas.items()
        )
        empty = empty_snapshots(tables, table, set(previous_dates.values()))
        comparison = Comparison(table, found[layout.changes_table], rejects, date, date, previous_dates, empty)
        write_changes(comparison, layout.changes, *_compared(layout), stage)
    return {name: committed.version if committed else -1 for name, committed in found.items()}


def find_changes(tables: Tables, layout: Layout, date: dt.date, slice_ids: Sequence[str], sink: Sink) -> None:
    """Write to a sink what the change log must say of some slices on a date, which are published.

    Raises:
        WarehouseError: a data file is missing or damaged.
    """
    if slice_ids:
        comparison = _comparison(tables, layout, date, date, _dates_before(tables, date, slice_ids))
        write_changes(comparison, layout.changes, *_compared(layout), sink)


def is_logged(facts: SliceFacts) -> bool:
    """Tell whether a published slice is in the change log: only a whole listing tells what has vanished."""
    return facts.whole and not facts.slice.filters


def _dates_before(tables: Tables, date: dt.date, slice_ids: Sequence[str]) -> dict[str, dt.date | None]:
    """Return the date of the complete snapshot before a date for each slice; None without one."""
    before = previous_snapshots(tables, date - dt.timedelta(days=1), slice_ids)
    return {name: before[name][0] if name in before else None for name in slice_ids}


def _compared(layout: Layout) -> tuple[Sequence[str], Sequence[Compared]]:
    """Return the key of a dataset's records, and the columns whose values are compared."""
    keys = [column.field.name for column in layout.key_columns]
    others = [column for column in layout.columns if column.field.name not in keys]
    compared = [Compared(column.field.name, column.rule, column.entry_rules) for column in others]
    return keys, [*compared, Compared("extra", layout.extra_rule)]


def _comparison(
    tables: Tables,
    layout: Layout,
    published: dt.date,
    snapshot_date: dt.date,
    previous_dates: Mapping[str, dt.date | None],
) -> Comparison:
    table, change_log = tables.read(layout.dataset.name), tables.read(layout.changes_table)
    assert table is not None
    empty = empty_snapshots(tables, table, {snapshot_date, *previous_dates.values()} - {published})
    return Comparison(table, change_log, tables.read("etl_rejects"), published, snapshot_date, previous_dates, empty)


def write_log(  # noqa: PLR0913, PLR0917  where, what, and by whom
    tables: Tables,
    change_log: str,
    schema: pa.Schema,
    keys: Sequence[str],
    columns: Sequence[Compared],
    comparison: Comparison,
    writer: Writer,
) -> None:
    """Replace what a change log says about the slices of a date by what a comparison finds.

    Raises:
        As `write_slices`.
    """
    replacement = Replacement(comparison.snapshot_date, "slice_id", tuple(comparison.previous_dates))
    stage = writer.stage(tables, change_log, schema, replacement)
    try:
        write_changes(comparison, schema, keys, columns, stage)
        writer.commit(tables, change_log, stage)
    finally:
        stage.discard()


def _read_back(
    tables: Tables, replacement: Replacement, expected: Mapping[str, Mapping[str, int]], run_ids: set[str]
) -> None:
    """Check that the tables hold the rows of these runs only, and as many of each slice as were written.

    Nobody else commits meanwhile if the lock of the warehouse works, and a file system may only seem to have locks.
    """
    for table, counts in expected.items():
        place = f"table {table}, {replacement.snapshot_date}"
        others = tables.values(table, replacement, "run_id") - run_ids
        if others:
            raise CommitConflictError(
                f"{place}: rows of run {', '.join(sorted(others))} were read back; another machine publishes the same "
                "slices although this one holds the lock: does the file system have locks (flock)? Run again"
            )
        found = tables.count(table, replacement)
        for slice_id, written in counts.items():
            if found[slice_id] != written:
                raise WarehouseError(
                    f"{place}, slice {slice_id}: {found[slice_id]} rows were read back, {written} were written; run "
                    "again to publish them once more"
                )
