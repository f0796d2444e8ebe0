"""Pages to Arrow batches: one pass over the pages of a slice, one batch per table for every few thousand records.

Published rows + rejects + superseded records = records of the pages, always.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.model import Member, Page, Slice, Snapshot
from etl.transform.arrays import array, below, spread
from etl.transform.privacy import PrivacyGuard
from etl.transform.records import PageRecords
from etl.transform.schema import REJECTS, TIMESTAMP, Child, Column, Layout
from etl.transform.sieve import UNFIT, Sieve

_BATCH_RECORDS = 2048


@dataclass(frozen=True)
class Flat:
    """Some records of one slice, laid out as columns.

    `tables` holds a batch for each table of the layout; `rejects` one of the schema REJECTS. `drift` names what the
    service model does not know: members, and values of enums.
    """

    tables: dict[str, pa.RecordBatch]
    rejects: pa.RecordBatch
    drift: frozenset[str]


@dataclass(frozen=True)
class _Some:
    """Some records that fit, and where they were: the pages they came on, with the number of records of each."""

    values: Sequence[Any]
    extras: Sequence[str | None]
    pages: Sequence[tuple[Page, int]]

    @classmethod
    def of(cls, found: Sequence[PageRecords]) -> "_Some":
        """Return the records of some pages."""
        return cls(
            [value for one in found for value in one.values],
            [extra for one in found for extra in one.extras],
            [(one.page, len(one.values)) for one in found],
        )


def flatten(
    layout: Layout,
    snapshot: Snapshot,
    slice_: Slice,
    pages: Iterable[Page],
    superseded: dict[int, frozenset[int]],
) -> Iterator[Flat]:
    """Yield the records of a slice as columns, in the order of the walk.

    Args:
        layout: the tables.
        snapshot: what the rows are for.
        slice_: the slice that the pages belong to.
        pages: its pages.
        superseded: page number -> positions of records to leave out.
    """
    flattener = _Flattener(layout, snapshot, slice_)
    waiting: list[PageRecords] = []
    records = 0
    for page in pages:
        found = flattener.reader.read_page(page, superseded.get(page.number, ()))
        waiting.append(found)
        records += len(found.values) + len(found.misfits)
        if records >= _BATCH_RECORDS:
            yield flattener.flatten(waiting)
            waiting, records = [], 0
    if records:
        yield flattener.flatten(waiting)


class _Flattener:
    def __init__(self, layout: Layout, snapshot: Snapshot, slice_: Slice) -> None:
        self._layout = layout
        self._snapshot = snapshot
        self._part = slice_
        self._sieve = Sieve(layout)
        self.reader = self._sieve.reader
        self._guard = PrivacyGuard(layout)

    def flatten(self, found: Sequence[PageRecords]) -> Flat:
        some = _Some.of(found)
        try:
            arrays = self._columns(some.values)
        except UNFIT:
            # Some value does not fit its type. Which one, Arrow does not say: each record is tried by itself.
            found = [self._sieve.sift(one) for one in found]
            some = _Some.of(found)
            arrays = self._columns(some.values)
        main = self._batch(self._layout.schema, some, [*arrays, pa.array(some.extras, pa.string())])
        tables = {
            child.table: self._child(child, arrays[self._layout.columns.index(child.source)], main)
            for child in self._layout.children
        }
        tables[self._layout.dataset.name] = main
        return Flat(tables, self._rejects(found), self._drift(some, arrays))

    def _columns(self, structs: Sequence[Any]) -> list[pa.Array]:
        """Return the columns of some records."""
        spread_out = spread(self._layout.operation.record, structs)
        return [
            self._guard.column(column, array(column.member, self._guard.entries(column, spread_out[column.path])))
            for column in self._layout.columns
        ]

    def _batch(self, schema: pa.Schema, some: _Some, middle: list[pa.Array]) -> pa.RecordBatch:
        """Put what every table begins and ends with around the columns of its own."""
        n = len(some.values)
        constant: Callable[[str], pa.Array] = lambda text: pa.repeat(pa.scalar(text, pa.string()), n)  # noqa: E731
        head = [
            pa.repeat(pa.scalar(self._snapshot.snapshot_date, pa.date32()), n),
            constant(self._part.account_id),
            constant(self._part.region),
            *(constant(self._part.parents[parameter]) for _, parameter in self._layout.parents),
        ]
        return pa.RecordBatch.from_arrays([*head, *middle, *self._tail(some.pages)], schema=schema)

    def _tail(self, pages: Sequence[tuple[Page, int]]) -> list[pa.Array]:
        """Return the columns that say where records come from, given the pages and how many came on each."""
        counts = [count for _, count in pages]
        owners = pa.array(np.repeat(np.arange(len(counts)), counts), pa.int64())
        return [
            pa.repeat(pa.scalar(self._snapshot.run_id, pa.string()), len(owners)),
            pa.repeat(pa.scalar(self._part.slice_id, pa.string()), len(owners)),
            pa.array([page.number for page, _ in pages], pa.int32()).take(owners),
            pa.array([page.received_at for page, _ in pages], TIMESTAMP).take(owners),
        ]

    def _child(self, child: Child, source: pa.Array, main: pa.RecordBatch) -> pa.RecordBatch:
        """Return one row for each entry of a map or list; what identifies the record is repeated."""
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
        for column in child.columns:
            filled[column.field.name] = below(element, entries, column.path)
        schema = self._layout.schemas[child.table]
        return pa.RecordBatch.from_arrays(
            [filled[name] if name in filled else main.column(name).take(owners) for name in schema.names],
            schema=schema,
        )

    def _rejects(self, found: Sequence[PageRecords]) -> pa.RecordBatch:
        misfits = [misfit for one in found for misfit in one.misfits]
        n = len(misfits)
        return pa.RecordBatch.from_arrays(
            [
                pa.repeat(pa.scalar(self._snapshot.snapshot_date, pa.date32()), n),
                pa.repeat(pa.scalar(self._snapshot.dataset.name, pa.string()), n),
                pa.repeat(pa.scalar(self._part.account_id, pa.string()), n),
                pa.repeat(pa.scalar(self._part.region, pa.string()), n),
                pa.array([misfit.position for misfit in misfits], pa.int32()),
                pa.array([misfit.reason for misfit in misfits], pa.string()),
                pa.array([self._guard.text(misfit.record) for misfit in misfits], pa.string()),
                *self._tail([(one.page, len(one.misfits)) for one in found]),
            ],
            schema=REJECTS,
        )

    def _drift(self, some: _Some, arrays: list[pa.Array]) -> frozenset[str]:
        """Name the unknown members, and the enum values that the model does not list."""
        record = self._layout.operation.record
        found = {f"member {path}" for extra in some.extras if extra for path in _paths(json.loads(extra), record)}
        for column, values in zip(self._layout.columns, arrays, strict=True):
            found.update(f"{'.'.join(column.path)} = {value}" for value in _unknown_values(column, values))
        return frozenset(found)


def _paths(extra: Any, member: Member | None, path: str = "") -> Iterator[str]:
    """Yield the paths of the unknown members in an `extra`: {"volumeConfiguration": {"kind": 1}} has one.

    What is below an unknown member has no names of its own, and entries of lists and maps no numbers: there is no
    end to them.
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
    """Return the values of a column that are not in the enum of its model."""
    element = column.member.element
    if column.member.kind == "list" and element is not None and element.enum:
        return set(pc.unique(values.flatten()).to_pylist()) - {None, *element.enum}
    if column.member.kind == "string" and column.member.enum:
        return set(pc.unique(values).to_pylist()) - {None, *column.member.enum}
    return set()
