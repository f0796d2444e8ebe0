"""Pages to Arrow batches: one pass over the pages of a slice, one batch per table for every few thousand records.

Invariant: rows + rejects + superseded records = records of the pages.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """Some records as columns.

    Attributes:
        slice_ids: of the slices that they belong to.
        tables: table of the layout -> its rows.
        rejects: the records that do not fit, in the schema REJECTS.
        drifts: slice id -> members and enum values that the service model does not know; of slices that have some.
    """

    slice_ids: frozenset[str]
    tables: dict[str, pa.RecordBatch]
    rejects: pa.RecordBatch
    drifts: Mapping[str, frozenset[str]]

    def counts(self) -> Iterator[tuple[str, str, int]]:
        """Yield slice id, table and number of rows, for each slice and table."""
        for table, rows in {**self.tables, "etl_rejects": self.rejects}.items():
            found = dict.fromkeys(self.slice_ids, 0)
            if len(found) == 1:
                found = dict.fromkeys(self.slice_ids, rows.num_rows)
            else:
                found |= {one["values"]: one["counts"] for one in pc.value_counts(rows["slice_id"]).to_pylist()}
            for slice_id, count in found.items():
                yield slice_id, table, count


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
    flattener = Flattener(layout, snapshot)
    waiting: list[PageRecords] = []
    records = 0
    for page in pages:
        found = flattener.reader.read_page(page, repeated.superseded.get(page.number, ()))
        if reasons := repeated.reasons(layout, page.number):
            found = found.without(reasons, flattener.reader.raw(page))
        waiting.append(found)
        records += len(found.values) + len(found.misfits)
        if records >= BATCH_RECORDS:
            yield flattener.flatten([(slice_, one) for one in waiting])
            waiting, records = [], 0
    if records:
        yield flattener.flatten([(slice_, one) for one in waiting])


class Flattener:
    """Turns records into columns; `reader` reads the pages that they are on."""

    def __init__(self, layout: Layout, snapshot: Snapshot) -> None:
        self._layout = layout
        self._snapshot = snapshot
        self._sieve = Sieve(layout)
        self.reader = self._sieve.reader
        self._guard = PrivacyGuard(layout)

    def flatten(self, pages: Sequence[tuple[Slice, PageRecords]]) -> Flat:
        """Return the records of some pages, which may be those of several slices, as columns."""
        slices, found = [slice_ for slice_, _ in pages], [one for _, one in pages]
        try:
            arrays = self._columns(found)
        except UNFIT:
            # Some value does not fit its type. Arrow does not tell which one, so each record is tried by itself.
            found = [self._sieve.sift(one) for one in found]
            arrays = self._columns(found)
        main = self._main(slices, found, arrays)
        tables = {
            child.table: self._child(child, arrays[self._layout.columns.index(child.source)], main)
            for child in self._layout.children
        }
        tables[self._layout.dataset.name] = main
        ids = frozenset(slice_.slice_id for slice_ in slices)
        return Flat(ids, tables, self._rejects(slices, found), self._drifts(slices, found, arrays))

    def _columns(self, found: Sequence[PageRecords]) -> list[pa.Array]:
        """Return the columns that hold the members of the records."""
        spread_out = spread(self._layout.operation.record, [value for one in found for value in one.values])
        return [
            self._guard.column(column, array(column.member, self._guard.entries(column, values)))
            for column in self._layout.columns
            for values in [as_maps(spread_out[column.path], column.entry)]
        ]

    def _main(
        self, slices: Sequence[Slice], found: Sequence[PageRecords], arrays: Sequence[pa.Array]
    ) -> pa.RecordBatch:
        """Return the rows of the dataset's own table."""
        extras = [extra for one in found for extra in one.extras]
        places = _Places(slices, found, [len(one.values) for one in found])
        parents = ([slice_.parents[parameter] for slice_ in slices] for _, parameter in self._layout.parents)
        columns = [
            *self._head(places, *parents), *arrays, *self._digests(found), self._guard.extras(extras),
            *self._tail(places),
        ]  # fmt: skip
        return pa.RecordBatch.from_arrays(columns, schema=self._layout.schema)

    def _digests(self, found: Sequence[PageRecords]) -> list[pa.Array]:
        """Return the column with the digest of each record, if the dataset has it."""
        if not self._layout.digest:
            return []
        texts = [
            text for one in found for raw in [self.reader.raw(one.page)] for text in map(raw.__getitem__, one.positions)
        ]
        return [pa.array(map(record_digest, texts), pa.string())]

    def _head(self, places: "_Places", *texts: Sequence[str]) -> list[pa.Array]:
        """Return the first columns: date, account, Region, then texts of which each page has one."""
        date = pa.repeat(pa.scalar(self._snapshot.snapshot_date, pa.date32()), places.rows)
        accounts, regions = [one.account_id for one in places.slices], [one.region for one in places.slices]
        return [date, *map(places.texts, (accounts, regions, *texts))]

    def _tail(self, places: "_Places") -> list[pa.Array]:
        """Return the last columns, which tell where rows come from."""
        pages = [one.page for one in places.found]
        return [
            places.texts([self._snapshot.run_id]),
            places.texts([one.slice_id for one in places.slices]),
            pa.array([page.number for page in pages], pa.int32()).take(places.owners),
            pa.array([page.received_at for page in pages], TIMESTAMP).take(places.owners),
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

    def _rejects(self, slices: Sequence[Slice], found: Sequence[PageRecords]) -> pa.RecordBatch:
        misfits = [misfit for one in found for misfit in one.misfits]
        places = _Places(slices, found, [len(one.misfits) for one in found])
        date, *where = self._head(places)
        return pa.RecordBatch.from_arrays(
            [
                date,
                places.texts([self._snapshot.dataset.name]),
                *where,
                pa.array([misfit.position for misfit in misfits], pa.int32()),
                pa.array([misfit.reason for misfit in misfits], pa.string()),
                pa.array([self._guard.text(misfit.record) for misfit in misfits], pa.string()),
                *self._tail(places),
            ],
            schema=REJECTS,
        )

    def _drifts(
        self, slices: Sequence[Slice], found: Sequence[PageRecords], arrays: Sequence[pa.Array]
    ) -> dict[str, frozenset[str]]:
        """Return what the service model does not know, by slice id."""
        if not (drift := self._drift(found, arrays)):
            return {}
        if len({slice_.slice_id for slice_ in slices}) == 1:
            return {slices[0].slice_id: drift}
        drifts: dict[str, frozenset[str]] = {}
        first = 0
        for slice_, one in zip(slices, found, strict=True):
            drift = self._drift([one], [values.slice(first, len(one.values)) for values in arrays])
            drifts[slice_.slice_id] = drifts.get(slice_.slice_id, frozenset()) | drift
            first += len(one.values)
        return {slice_id: drift for slice_id, drift in drifts.items() if drift}

    def _drift(self, found: Sequence[PageRecords], arrays: Sequence[pa.Array]) -> frozenset[str]:
        """Name the members and the enum values that the service model does not know."""
        record = self._layout.operation.record
        extras = [json.loads(extra) for one in found for extra in one.extras if extra]
        drift = {f"member {path}" for extra in extras for path in _paths(extra, record)}
        for column, values in zip(self._layout.columns, arrays, strict=True):
            drift.update(f"{'.'.join(column.path)} = {value}" for value in _unknown_values(column, values))
        return frozenset(drift)


class _Places:
    """Which page, and so which slice, each of some rows comes from. `counts` has the number of rows of each page."""

    def __init__(self, slices: Sequence[Slice], found: Sequence[PageRecords], counts: Sequence[int]) -> None:
        self.slices = slices
        self.found = found
        self.rows = sum(counts)
        self.owners = pa.array(np.repeat(np.arange(len(counts)), counts), pa.int64())

    def texts(self, of_pages: Sequence[str]) -> pa.Array:
        """Return a text for each row, given that of each page; one text is that of all."""
        if len(set(of_pages)) == 1:
            return pa.repeat(pa.scalar(of_pages[0], pa.string()), self.rows)
        return pa.array(of_pages, pa.string()).take(self.owners)


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
