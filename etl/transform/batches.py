"""Pages to Arrow batches: one pass over the pages of a slice, one batch per table for every few thousand records.

Published rows + rejects + superseded records = records of the pages, always.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.errors import RecordError
from etl.model import Member, Page, Slice, Snapshot
from etl.transform.arrays import array, getter, lengths, map_entries
from etl.transform.privacy import PrivacyGuard
from etl.transform.records import Misfit, Reader, Record
from etl.transform.schema import REJECTS, TIMESTAMP, Child, Column, Layout

_BATCH_RECORDS = 8192
_UNFIT = (ValueError, OverflowError, TypeError, RecordError)
"""What Arrow raises for a value that a type cannot hold: its own errors are ValueErrors and TypeErrors."""


@dataclass(frozen=True)
class Flat:
    """Some records of one slice, laid out as columns.

    `tables` holds a batch for each table of the layout; `rejects` one of the schema REJECTS. `drift` names what the
    service model does not know: members, and values of enums.
    """

    tables: dict[str, pa.RecordBatch]
    rejects: pa.RecordBatch
    drift: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A record or misfit, and the page that it came on."""

    what: Any
    page: Page


def flatten(
    layout: Layout,
    snapshot: Snapshot,
    part: Slice,
    pages: Iterable[Page],
    superseded: dict[int, frozenset[int]],
) -> Iterator[Flat]:
    """Yield the records of a slice as columns, in the order of the walk.

    Args:
        layout: the tables.
        snapshot: what the rows are for.
        part: the slice that the pages belong to.
        pages: its pages.
        superseded: page number -> positions of records to leave out.
    """
    flattener = _Flattener(layout, snapshot, part)
    arrivals = (
        _Arrived(what, page)
        for page in pages
        for what in flattener.reader.read(page)
        if what.position not in superseded.get(page.number, ())
    )
    while some := list(itertools.islice(arrivals, _BATCH_RECORDS)):
        yield flattener.flatten(some)


class _Flattener:
    def __init__(self, layout: Layout, snapshot: Snapshot, part: Slice) -> None:
        self._layout = layout
        self._snapshot = snapshot
        self._part = part
        self.reader = Reader(layout.dataset, layout.operation)
        self._getters = [getter(layout.operation.record, column.path) for column in layout.columns]
        self._guard = PrivacyGuard(layout)

    def flatten(self, some: list[_Arrived]) -> Flat:
        misfits = [arrived for arrived in some if isinstance(arrived.what, Misfit)]
        good = [arrived for arrived in some if not isinstance(arrived.what, Misfit)]
        try:
            values, arrays = self._columns(good)
        except _UNFIT:
            # Some value does not fit its type. Which one, Arrow does not say: each record is tried by itself.
            good, unfit = self._sift(good)
            misfits += unfit
            values, arrays = self._columns(good)
        main = self._batch(self._layout.schema, good, [*arrays, self._extra(good)])
        tables = {
            child.table: self._child(child, values[self._layout.columns.index(child.source)], main)
            for child in self._layout.children
        }
        tables[self._layout.dataset.name] = main
        return Flat(tables, self._rejects(misfits), self._drift(good, arrays))

    def _columns(self, arrived: list[_Arrived]) -> tuple[list[list[Any]], list[pa.Array]]:
        """Return the values of each column, and the same as Arrow arrays."""
        structs = [one.what.value for one in arrived]
        columns = self._layout.columns
        values = [self._guard.entries(column, get(structs)) for column, get in zip(columns, self._getters, strict=True)]
        arrays = [array(column.member, v) for column, v in zip(columns, values, strict=True)]
        return values, [self._guard.column(column, found) for column, found in zip(columns, arrays, strict=True)]

    def _sift(self, arrived: list[_Arrived]) -> tuple[list[_Arrived], list[_Arrived]]:
        """Return the records that fit, and the others as misfits with the reason."""
        good, unfit = [], []
        for one in arrived:
            reason = self._why_unfit(one.what)
            if reason is None:
                good.append(one)
            else:
                text = self.reader.raw(one.page)[one.what.position]
                unfit.append(_Arrived(Misfit(one.what.position, reason, text.decode()), one.page))
        return good, unfit

    def _why_unfit(self, record: Record) -> str | None:
        for column, get in zip(self._layout.columns, self._getters, strict=True):
            values = get([record.value])
            try:
                array(column.member, values)
            except _UNFIT as exc:
                api_path = ".".join(column.path)
                if column.rule != "allow" or column.entry_rules or _is_private(column.member):
                    return f"{api_path} does not fit its type; its value is private"
                found = str(exc) if isinstance(exc, RecordError) else f"is {values[0]!r}; {exc}"
                return f"{api_path} {found}"
        return None

    def _extra(self, arrived: list[_Arrived]) -> pa.Array:
        return pa.array([one.what.extra for one in arrived], pa.string())

    def _batch(self, schema: pa.Schema, arrived: list[_Arrived], middle: list[pa.Array]) -> pa.RecordBatch:
        """Put what every table begins and ends with around the columns of its own."""
        n = len(arrived)
        constant: Callable[[str], pa.Array] = lambda text: pa.repeat(pa.scalar(text, pa.string()), n)  # noqa: E731
        head = [
            pa.repeat(pa.scalar(self._snapshot.snapshot_date, pa.date32()), n),
            constant(self._part.account_id),
            constant(self._part.region),
            *(constant(self._part.parents[parameter]) for _, parameter in self._layout.parents),
        ]
        return pa.RecordBatch.from_arrays([*head, *middle, *self._tail(arrived)], schema=schema)

    def _tail(self, arrived: list[_Arrived]) -> list[pa.Array]:
        n = len(arrived)
        return [
            pa.repeat(pa.scalar(self._snapshot.run_id, pa.string()), n),
            pa.repeat(pa.scalar(self._part.slice_id, pa.string()), n),
            pa.array([one.page.number for one in arrived], pa.int32()),
            pa.array([one.page.received_at for one in arrived], TIMESTAMP),
        ]

    def _child(self, child: Child, values: list[Any], main: pa.RecordBatch) -> pa.RecordBatch:
        """Return one row for each entry of a map or list; what identifies the record is repeated."""
        counts = lengths(values)
        owners = pa.array(np.repeat(np.arange(len(values)), counts), pa.int64())
        if child.source.member.kind == "map":
            names, entries = map_entries(values)
            place = pa.array(names, pa.string())
        else:
            entries = [inner for value in values if value for inner in value]
            place = pa.array([i for count in counts for i in range(count)], pa.int32())
        element = child.source.member.element
        assert element is not None
        filled = {child.entry.name: place}
        for column in child.columns:
            get: Any = getter(element, column.path) if column.path else list
            filled[column.field.name] = array(column.member, get(entries))
        schema = self._layout.schemas[child.table]
        return pa.RecordBatch.from_arrays(
            [filled[name] if name in filled else main.column(name).take(owners) for name in schema.names],
            schema=schema,
        )

    def _rejects(self, misfits: list[_Arrived]) -> pa.RecordBatch:
        n = len(misfits)
        return pa.RecordBatch.from_arrays(
            [
                pa.repeat(pa.scalar(self._snapshot.snapshot_date, pa.date32()), n),
                pa.repeat(pa.scalar(self._snapshot.dataset.name, pa.string()), n),
                pa.repeat(pa.scalar(self._part.account_id, pa.string()), n),
                pa.repeat(pa.scalar(self._part.region, pa.string()), n),
                pa.array([one.what.position for one in misfits], pa.int32()),
                pa.array([one.what.reason for one in misfits], pa.string()),
                pa.array([self._guard.text(one.what.record) for one in misfits], pa.string()),
                *self._tail(misfits),
            ],
            schema=REJECTS,
        )

    def _drift(self, arrived: list[_Arrived], arrays: list[pa.Array]) -> frozenset[str]:
        """Name the unknown members, and the enum values that the model does not list."""
        record = self._layout.operation.record
        found = {
            f"member {path}" for one in arrived if one.what.extra for path in _paths(json.loads(one.what.extra), record)
        }
        for column, values in zip(self._layout.columns, arrays, strict=True):
            found.update(f"{'.'.join(column.path)} = {value}" for value in _unknown_values(column, values))
        return frozenset(found)


def _is_private(member: Member) -> bool:
    """Tell whether messages must not repeat a value: it is sensitive, or may be what users wrote into tags."""
    below = (*member.members, *([member.element] if member.element else []))
    return member.sensitive or member.kind == "map" or any(map(_is_private, below))


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
