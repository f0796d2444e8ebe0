"""Rows that are written anew without their pages: some are removed, or privacy changes their values."""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from etl.load.delta.atomic import undone_if_it_fails
from etl.load.delta.parquet import fill, read_batches
from etl.load.delta.tables import PARTITION, Committed, Replacement, Tables
from etl.load.snapshots import newest_publications
from etl.pipeline.write import Writer
from etl.transform.former import FormerRows
from etl.transform.schema import Layout

Revise = Callable[[pa.RecordBatch], pa.RecordBatch]
"""Returns what some rows of a table become, in the same schema. It returns the same batch if they stay as they are."""


def read_rows(table: Committed, date: dt.date) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one date in the schema of the table.

    Raises:
        WarehouseError: a data file is missing or damaged.
    """
    for file in table.files.get(date, []):
        for batch in read_batches(table.store, file, None):
            yield fill(batch, table.schema, {PARTITION: date})


def rewrite_rows(tables: Tables, name: str, date: dt.date, revise: Revise, writer: Writer) -> bool:
    """Replace all rows of a date by what they become, in one commit; return False if all of them stay as they are.

    Raises:
        WarehouseError: a data file is missing or damaged.
        CommitConflictError, CommitUnknownError, StorageError: as `Commit.land`.
    """
    table = tables.read(name)
    assert table is not None
    if all(revise(batch) is batch for batch in read_rows(table, date)):
        return False
    runs = {run_id for batch in read_rows(table, date) for run_id in pc.unique(batch["run_id"]).to_pylist()}
    stage = writer.stage(tables, name, table.schema, Replacement(date, "run_id", tuple(sorted(runs))))
    try:
        for batch in read_rows(table, date):
            stage.write(revise(batch))
        writer.commit(tables, name, stage)
    finally:
        stage.discard()
    return True


Row = dict[str, Any]


def by_row(revise: Callable[[Row], Row | None]) -> Revise:
    """Return the revision that revises row by row; None: the row goes."""
    return partial(_each, revise)


def _each(revise: Callable[[Row], Row | None], batch: pa.RecordBatch) -> pa.RecordBatch:
    rows = batch.to_pylist()
    left = [row for row in map(revise, rows) if row is not None]
    return batch if left == rows else pa.RecordBatch.from_pylist(left, schema=batch.schema)


def apply_rules(tables: Tables, layout: Layout, date: dt.date, writer: Writer) -> None:
    """Apply the present rules of privacy to the rows of a dataset and date: in its tables, its change log, and rejects.

    Raises:
        WarehouseError: a data file is missing or damaged; nothing has changed.
        CommitConflictError, CommitUnknownError, StorageError: as `Commit.land`.
    """
    former = FormerRows(layout)
    if not former:
        return
    revisions: dict[str, Revise] = dict.fromkeys(layout.schemas, former.records)
    for child in layout.children:
        if child.source.entry_rules:
            revisions[child.table] = partial(former.entries, child)
    revisions |= dict.fromkeys(layout.hidden, by_row(lambda _: None))
    revisions[layout.changes_table] = former.changes
    revisions["etl_rejects"] = partial(_of_dataset, layout.dataset.name, former.rejects)
    with undone_if_it_fails(tables):
        changed = {
            name
            for name in revisions.keys() & {*tables.names()}
            if rewrite_rows(tables, name, date, revisions[name], writer)
        }
        if counted := changed - {layout.changes_table}:
            _count_again(tables, counted, date, writer)


def _of_dataset(name: str, revise: Revise, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return rejects of which only those of one dataset are revised."""
    mine = pc.equal(batch["dataset"], name)
    revised = revise(batch.filter(mine))
    if revised.equals(batch.filter(mine)):
        return batch
    return pa.concat_batches([batch.filter(pc.invert(mine)), revised])


def _count_again(tables: Tables, names: set[str], date: dt.date, writer: Writer) -> None:
    """Write into etl_slices how many rows of their publications some tables have now."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for name in names:
        table = tables.read(name)
        assert table is not None
        for batch in read_rows(table, date):
            places = zip(batch["run_id"].to_pylist(), batch["slice_id"].to_pylist(), strict=True)
            counts.update((name, *place) for place in places)
    seen = newest_publications(tables, date)

    def recounted(row: Row) -> Row:
        run_id, slice_id = row["run_id"], row["slice_id"]
        if seen.get(slice_id, {}).get("run_id") != run_id or not row["table_rows"]:
            return row
        rows = [(name, counts[name, run_id, slice_id] if name in names else count) for name, count in row["table_rows"]]
        return {**row, "table_rows": rows}

    rewrite_rows(tables, "etl_slices", date, by_row(recounted), writer)
