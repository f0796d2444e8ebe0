"""Typed records from page bytes.

The API shape becomes a msgspec type once. One call decodes a whole page into it. If something on the page does not fit,
each record is decoded by itself: members that the model does not know go into `extra`, and a record that still does not
fit is a misfit, with the path of the value in its reason.
"""

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any, Literal, Self

import msgspec

from etl.model import Dataset, Member, Operation, Page, key_leaves, leaves
from etl.transform.arrays import getter
from etl.transform.keys import has_doubled_key, may_have_doubled_key
from etl.transform.nesting import MOST_LEVELS, depth_of, items_of

_NUMBER = float | Literal["NaN", "Infinity", "-Infinity"]
"""JSON has no numbers for these three, so AWS sends them as texts. Source: Smithy, AWS restJson1 protocol."""
_EXACT = 2**53
"""Below this, every integer is a double of its own."""
_SCALARS: Mapping[str, Any] = {
    "string": str, "integer": int, "long": int, "float": _NUMBER, "double": _NUMBER, "boolean": bool,
    "timestamp": str | float, "blob": bytes, "document": Any,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a page: its `position` on the page from 0, and its `value` in the type of its shape."""

    position: int
    value: Any
    extra: str | None = None


@dataclass(frozen=True, slots=True)
class Misfit:
    """A record that does not fit its dataset; `record` is all of it as JSON text."""

    position: int
    reason: str
    record: str


@dataclass(frozen=True, slots=True)
class PageRecords:
    """The records of one page: position, value and extra of those that fit, in page order, and the misfits."""

    page: Page
    positions: Sequence[int]
    values: Sequence[Any]
    extras: Sequence[str | None]
    misfits: Sequence[Misfit] = ()

    @classmethod
    def of(cls, page: Page, fitting: Sequence[tuple[int, Any, str | None]], misfits: Sequence[Misfit] = ()) -> Self:
        """Return the records of a page; `fitting` has the position, value and extra of each."""
        positions, values, extras = zip(*fitting, strict=True) if fitting else ((), (), ())
        return cls(page, positions, values, extras, misfits)

    def without(self, reasons: Mapping[int, str], raw: Sequence[bytes]) -> Self:
        """Return the same with misfits at some positions, for these reasons; `raw` has the text of each record."""
        kept = [one for one in zip(self.positions, self.values, self.extras, strict=True) if one[0] not in reasons]
        misfits = [Misfit(i, reasons[i], raw[i].decode()) for i in self.positions if i in reasons]
        return self.of(self.page, kept, [*self.misfits, *misfits])


class Reader:
    """Reads pages of one dataset. A record without any part of its key is a misfit.

    With `columns`, only the top-level members with these columns are read, and the others are ignored. The attribute
    `record` is the shape of the values that are read.
    """

    def __init__(self, dataset: Dataset, operation: Operation, columns: tuple[str, ...] | None = None) -> None:
        record = operation.record
        self._operation = operation
        self._strict = columns is None
        paths = {name: tuple(path.split(".")) for name, path, _ in leaves(record)}
        if columns is not None:
            wanted = {paths[name][0] for name in columns if name in paths}
            members = tuple(member for member in record.members if member.api_name in wanted)
            record = record.model_copy(update={"members": members})
        self.record = record
        key = {name: path for name, (path, _) in key_leaves(dataset.key, operation.record).items()}
        self._type = struct_type(record, [*key.values()] if len(key) == 1 else [], strict=self._strict)
        is_read = {path[0] for path in key.values()} <= {member.api_name for member in record.members}
        self._parts = {name: getter(record, path) for name, path in key.items()} if len(key) > 1 and is_read else {}
        self._page = _page_decoder(operation, self._type)
        self._record = msgspec.json.Decoder(self._type)

    def read(self, page: Page) -> Iterator[Record | Misfit]:
        """Yield the records of a page that belong to the walk, in order."""
        found = self.read_page(page)
        arrived: list[Record | Misfit] = [*map(Record, found.positions, found.values, found.extras), *found.misfits]
        yield from sorted(arrived, key=attrgetter("position"))

    def read_page(self, page: Page, without: Container[int] = ()) -> PageRecords:
        """Return the records of a page that belong to the walk, except those at the positions `without`."""
        try:
            values = self._page.decode(page.body).records
        except (msgspec.DecodeError, RecursionError):
            return self._read_one_by_one(page, without)
        around = 1 if page.next_starting_token is None else 2  # the list, and the token
        if self._strict and may_have_doubled_key(page.body, values, around):
            return self._read_one_by_one(page, without)
        if self._lack_key(values):
            return self._read_one_by_one(page, without)
        positions: Sequence[int] = range(page.first, page.stop)
        if without:
            positions = [position for position in positions if position not in without]
        return PageRecords(page, positions, [values[i] for i in positions], (None,) * len(positions))

    def named(self, record: Record) -> dict[str, Any]:
        """Return the top-level members of a record by name."""
        return {member.name: getattr(record.value, f"m{i}") for i, member in enumerate(self.record.members)}

    def raw(self, page: Page) -> list[bytes]:
        """Return each record of a page, kept or not, as its JSON text."""
        try:
            return [bytes(item) for item in self._raw_page.decode(page.body).records]
        except RecursionError:
            return list(items_of(page.body, self._operation.result_key))
        except msgspec.DecodeError:
            # JSON allows lone surrogates, msgspec does not. As ASCII text they stay as they are.
            return [json.dumps(item).encode() for item in json.loads(page.body)[self._operation.result_key]]

    def _read_fitting(self, text: bytes) -> Any:
        """Return the value of a record; None if anything about it must be looked at more closely."""
        try:
            value = self._record.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return None
        return None if (self._strict and may_have_doubled_key(text, value)) or self._lack_key([value]) else value

    def _lack_key(self, values: Sequence[Any]) -> bool:
        """Tell whether one of some records has no part of a key of several columns."""
        keys = zip(*(part(values) for part in self._parts.values()), strict=True)
        return any(all(part is None for part in key) for key in keys)

    @cached_property
    def _raw_page(self) -> Any:
        return _page_decoder(self._operation, msgspec.Raw)

    def _read_one_by_one(self, page: Page, without: Container[int]) -> PageRecords:
        raw = self.raw(page)
        fitting: list[tuple[int, Any, str | None]] = []
        misfits = []
        for position in range(page.first, page.stop):
            if position in without:
                continue
            text = raw[position]
            value = self._read_fitting(text)
            if value is not None:
                fitting.append((position, value, None))
                continue
            if depth_of(text) > MOST_LEVELS:
                misfits.append(Misfit(position, f"is nested deeper than {MOST_LEVELS} levels", text.decode()))
                continue
            if has_doubled_key(text):
                misfits.append(Misfit(position, "has a key twice in one object", text.decode()))
                continue
            try:
                known, extra = split_unknown(msgspec.json.decode(text), self.record)
                value = msgspec.convert(known, self._type)
            except msgspec.DecodeError as exc:
                misfits.append(Misfit(position, str(exc), text.decode()))
                continue
            if self._lack_key([value]):
                misfits.append(Misfit(position, f"has none of its key {', '.join(self._parts)}", text.decode()))
            else:
                note = msgspec.json.encode(extra).decode() if extra and self._strict else None
                fitting.append((position, value, note))
        return PageRecords.of(page, fitting, misfits)


def _page_decoder(operation: Operation, record: Any) -> Any:
    """Return a JSON decoder for a page whose result list has items of the type `record`."""
    fields = [("records", list[record])]
    return msgspec.json.Decoder(msgspec.defstruct("Page", fields, rename={"records": operation.result_key}))


def struct_type(member: Member, required: Sequence[tuple[str, ...]] = (), *, strict: bool = True) -> Any:
    """Return the msgspec type of a structure. Field m0 is its first member, m1 the second; absent members are None.

    Args:
        member: the structure.
        required: API paths of the members that must be there.
        strict: refuse members that the structure does not have.
    """
    fields: list[Any] = []
    for i, child in enumerate(member.members):
        below = [path[1:] for path in required if path[0] == child.api_name]
        kind = _type(child, list(filter(None, below)), strict=strict)
        fields.append((f"m{i}", kind) if below else (f"m{i}", kind | None, None))
    return msgspec.defstruct(
        member.name.title().replace("_", "") or "Record",
        fields,
        rename={f"m{i}": child.api_name for i, child in enumerate(member.members)},
        forbid_unknown_fields=strict,
        kw_only=True,
        omit_defaults=True,
        gc=False,
    )


def split_unknown(value: Any, member: Member) -> tuple[Any, Any]:
    """Split a JSON value into the members that the model knows and those that it does not know.

    Unknown members inside a list or map are listed with the position or key of their entry: {"0": {"new": 1}}.
    """
    if member.kind == "structure" and isinstance(value, dict):
        shapes = {child.api_name: child for child in member.members}
        known, extra = {}, {name: inner for name, inner in value.items() if name not in shapes}
        for name, inner in value.items():
            if name in shapes:
                known[name], below = split_unknown(inner, shapes[name])
                if below:
                    extra[name] = below
        return known, extra
    if member.kind in ("integer", "long") and isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value), None  # 3.0 and 1e1 are integers. Source: RFC 8259, section 6
    if member.element is not None and isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        parts = {key: split_unknown(inner, member.element) for key, inner in items}
        extra = {str(key): below for key, (_, below) in parts.items() if below}
        known_parts = {key: inner for key, (inner, _) in parts.items()}
        return (known_parts if isinstance(value, dict) else list(known_parts.values())), extra
    return value, None


def _type(member: Member, required: Sequence[tuple[str, ...]] = (), *, strict: bool) -> Any:
    if member.kind == "structure":
        return struct_type(member, required, strict=strict)
    if member.element is None:
        return _SCALARS[member.kind]
    inner = _type(member.element, strict=strict) | None
    return dict[str, inner] if member.kind == "map" else list[inner]  # type: ignore[valid-type]
