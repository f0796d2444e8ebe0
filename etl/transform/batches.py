"""Pages to Arrow batches: one pass over the pages of a slice, one batch per table for every few thousand records.

Invariant: rows + rejects + superseded records = records of the pages.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.model import Member, Page, Slice, Snapshot
from etl.transform.arrays import array, as_maps, below, spread
from etl.transform.duplicates import Repeated
from etl.transform.keys import record_digest
from etl.transform.privacy import PrivacyGuard
from etl.transform.records import PageRecords
from etl.transform.schema import REJECTS, TIMESTAMP, Child, Column, Layout
from etl.transform.sieve import UNFIT, Sieve

BATCH_RECORDS = 2048
_NONE = Repeated()


@dataclass(frozen=True)
class Flat:
    """Some records of one slice as columns.

    Attributes:
        tables: table of the layout -> its rows.
        rejects: the records that do not fit, in the schema REJECTS.
        drift: members and enum values that the service model does not know.
    """

    tables: dict[str, pa.RecordBatch]
    rejects: pa.RecordBatch
    drift: frozenset[str]


def flatten(
    layout: Layout,
    snapshot: Snapshot,
    slice_: Slice,
    pages: Iterable[Page],
    repeated: Repeated = _NONE,
) -> Iterator[Flat]:
    """Yield the records of a slice as columns, in the order of the walk.

    Of those that are `repeated`, the superseded ones are left out, and the ambiguous ones become rejects.
    """
    flattener = Flattener(layout, snapshot, slice_)
    waiting: list[PageRecords] = []
    records = 0
    for page in pages:
        found = flattener.reader.read_page(page, repeated.superseded.get(page.number, ()))
        if reasons := repeated.reasons(layout, page.number):
            found = found.without(reasons, flattener.reader.raw(page))
        waiting.append(found)
        records += len(found.values) + len(found.misfits)
        if records >= BATCH_RECORDS:
            yield flattener.flatten(waiting)
            waiting, records = [], 0
    if records:
        yield flattener.flatten(waiting)


class Flattener:
    """Turns the records of one slice into columns; `reader` reads its pages."""

    def __init__(self, layout: Layout, snapshot: Snapshot, slice_: Slice) -> None:
        self._layout = layout
        self._snapshot = snapshot
        self._part = slice_
        self._sieve = Sieve(layout)
        self.reader = self._sieve.reader
        self._guard = PrivacyGuard(layout)

    def flatten(self, found: Sequence[PageRecords]) -> Flat:
        """Return the records of some pages as columns."""
        try:
            arrays = self._columns(found)
        except UNFIT:
            # Some value does not fit its type. Arrow does not tell which one, so each record is tried by itself.
            found = [self._sieve.sift(one) for one in found]
            arrays = self._columns(found)
        main = self._main(found, arrays)
        tables = {
            child.table: self._child(child, arrays[self._layout.columns.index(child.source)], main)
            for child in self._layout.children
        }
        tables[self._layout.dataset.name] = main
        return Flat(tables, self._rejects(found), self._drift(found, arrays))

    def _columns(self, found: Sequence[PageRecords]) -> list[pa.Array]:
        """Return the columns that hold the members of the records."""
        spread_out = spread(self._layout.operation.record, [value for one in found for value in one.values])
        return [
            self._guard.column(column, array(column.member, self._guard.entries(column, values)))
            for column in self._layout.columns
            for values in [as_maps(spread_out[column.path], column.entry)]
        ]

    def _main(self, found: Sequence[PageRecords], arrays: Sequence[pa.Array]) -> pa.RecordBatch:
        """Return the rows of the dataset's own table."""
        extras = [extra for one in found for extra in one.extras]
        parents = (self._part.parents[parameter] for _, parameter in self._layout.parents)
        head = self._head(len(extras), self._part.account_id, self._part.region, *parents)
        tail = self._tail([(one.page, len(one.values)) for one in found])
        columns = [*head, *arrays, *self._digests(found), self._guard.extras(extras), *tail]
        return pa.RecordBatch.from_arrays(columns, schema=self._layout.schema)

    def _digests(self, found: Sequence[PageRecords]) -> list[pa.Array]:
        """Return the column with the digest of each record, if the dataset has it."""
        if not self._layout.digest:
            return []
        texts = [
            text for one in found for raw in [self.reader.raw(one.page)] for text in map(raw.__getitem__, one.positions)
        ]
        return [pa.array(map(record_digest, texts), pa.string())]

    def _head(self, n: int, *texts: str) -> list[pa.Array]:
        """Return the first columns of n rows: the snapshot date, then texts that are the same in each row."""
        return [pa.repeat(pa.scalar(self._snapshot.snapshot_date, pa.date32()), n), *_repeat(n, *texts)]

    def _tail(self, pages: Sequence[tuple[Page, int]]) -> list[pa.Array]:
        """Return the last columns, which tell where rows come from, for pages with the number of rows of each."""
        counts = [count for _, count in pages]
        owners = pa.array(np.repeat(np.arange(len(counts)), counts), pa.int64())
        return [
            *_repeat(len(owners), self._snapshot.run_id, self._part.slice_id),
            pa.array([page.number for page, _ in pages], pa.int32()).take(owners),
            pa.array([page.received_at for page, _ in pages], TIMESTAMP).take(owners),
        ]

    def _child(self, child: Child, source: pa.Array, main: pa.RecordBatch) -> pa.RecordBatch:
        """Return one row for each entry of a map or list, with the columns that identify its record."""
        offsets = source.offsets.to_numpy()
        counts = np.diff(offsets)
        owners = pa.array(np.repeat(np.arange(len(source)), counts), pa.int64())
        if child.source.member.kind == "map":
            place, entries = source.keys, source.items
        else:
            place = pa.array(np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts), pa.int32())
            entries = source.values
        element = child.source.member.element
        assert element is not None
        filled = {child.entry.name: place}
        filled |= {column.field.name: below(element, entries, column.path) for column in child.columns}
        schema = self._layout.schemas[child.table]
        arrays = [filled[name] if name in filled else main.column(name).take(owners) for name in schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _rejects(self, found: Sequence[PageRecords]) -> pa.RecordBatch:
        misfits = [misfit for one in found for misfit in one.misfits]
        part = self._part
        return pa.RecordBatch.from_arrays(
            [
                *self._head(len(misfits), self._snapshot.dataset.name, part.account_id, part.region),
                pa.array([misfit.position for misfit in misfits], pa.int32()),
                pa.array([misfit.reason for misfit in misfits], pa.string()),
                pa.array([self._guard.text(misfit.record) for misfit in misfits], pa.string()),
                *self._tail([(one.page, len(one.misfits)) for one in found]),
            ],
            schema=REJECTS,
        )

    def _drift(self, found: Sequence[PageRecords], arrays: Sequence[pa.Array]) -> frozenset[str]:
        """Name the members and the enum values that the service model does not know."""
        record = self._layout.operation.record
        extras = [json.loads(extra) for one in found for extra in one.extras if extra]
        drift = {f"member {path}" for extra in extras for path in _paths(extra, record)}
        for column, values in zip(self._layout.columns, arrays, strict=True):
            drift.update(f"{'.'.join(column.path)} = {value}" for value in _unknown_values(column, values))
        return frozenset(drift)


def _repeat(n: int, *texts: str) -> list[pa.Array]:
    return [pa.repeat(pa.scalar(text, pa.string()), n) for text in texts]


def _paths(extra: Any, member: Member | None, path: str = "") -> Iterator[str]:
    """Yield the paths of the unknown members in an `extra`: {"volumeConfiguration": {"kind": 1}} has one.

    Paths end at the unknown member and do not number the entries of lists and maps, so that there are only a few.
    """
    if member is None:
        yield path
    elif member.element is not None:
        for inner in extra.values():
            yield from _paths(inner, member.element, f"{path}[]" if member.kind == "list" else f"{path}{{}}")
    else:
        shapes = {child.api_name: child for child in member.members}
        for name, inner in extra.items():
            yield from _paths(inner, shapes.get(name), f"{path}.{name}" if path else name)


def _unknown_values(column: Column, values: pa.Array) -> set[str]:
    """Return the values of a column that its enum does not have; none of a column whose values are not shown."""
    if column.rule != "allow":
        return set()
    is_list = column.member.kind == "list"
    texts = column.member.element if is_list else column.member
    if texts is None or texts.kind != "string" or not texts.enum:
        return set()
    return set(pc.unique(values.flatten() if is_list else values).to_pylist()) - {None, *texts.enum}
