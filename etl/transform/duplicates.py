"""Finds the records of one walk that have the same key, and tells what that means.

Sessions move between pages during a listing, so one session may appear twice. Of such records the newest by `order_by`
stays; among equals, the later one. The others are superseded.

A key may also be wrong, and then different things have the same one. No listing moves a record within an answer, so
records of one page with the same key and other content are ambiguous. So are records of several pages that go on with a
list that began before: none of them repeats an entry of the other. All records of such a key become rejects, because to
keep one of them would lose the others in silence.

A record that does not fit becomes a reject and supersedes none. The search needs 8 bytes of memory per record: it
compares keys only where their hashes are equal.
"""

import hashlib
from array import array
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec
import numpy as np

from etl.model import KEY_KINDS, Page, key_leaves, leaves
from etl.transform.arrays import getter, instant_us
from etl.transform.keys import record_digest
from etl.transform.records import PageRecords, Reader
from etl.transform.schema import Layout
from etl.transform.sieve import Sieve

_LEAST = -(2**63)
"""Ranks below every instant."""
_encoded = partial(msgspec.json.encode, order="sorted")

Positions = Mapping[int, frozenset[int]]
"""Page number -> positions of records."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """The records of a slice that share their key with others.

    Attributes:
        superseded: those that a better record of the same key supersedes.
        ambiguous: those that share it with records of other content: page number -> position -> two of them.
    """

    superseded: Positions = field(default_factory=dict)
    ambiguous: Mapping[int, Mapping[int, str]] = field(default_factory=dict)

    def reasons(self, layout: Layout, number: int) -> dict[int, str]:
        """Return why the ambiguous records of a page are rejects, by position."""
        key = "+".join(layout.dataset.key)
        return {
            position: f"{example} have the same {key} and say different things: {key} does not identify a record"
            for position, example in self.ambiguous.get(number, {}).items()
        }

    def describe(self, layout: Layout) -> str:
        """Return how many records are ambiguous, with an example and the next step; nothing if none are."""
        if not self.ambiguous:
            return ""
        number = sum(map(len, self.ambiguous.values()))
        example = next(iter(next(iter(self.ambiguous.values())).values()))
        return (
            f"the key {'+'.join(layout.dataset.key)} of dataset {layout.dataset.name} does not identify a record: "
            f"{number} records share it with others that say something else, such as {example}. They are in "
            "etl_rejects. Name more columns in `key`, or set `key: []` for the whole record"
        )


_Pair = tuple[tuple[int, int], tuple[int, int]]
"""Page number and position of two records."""


@dataclass(slots=True)
class _Records:
    """The records with one key that were found so far, in the order of the walk.

    `ranks` has instant, page number and position of each. `content` and `entries` are those of the last: a digest of
    all that it says, and what each of its lists holds. `differing` has the places of two that do not say the same,
    `example` of two that cannot be the same thing.
    """

    ranks: list[tuple[int, int, int]] = field(default_factory=list)
    content: bytes = b""
    entries: Sequence[frozenset[int]] = ()
    example: _Pair | None = None
    differing: _Pair | None = None


def find_repeated(layout: Layout, pages: Callable[[], Iterable[Page]]) -> Repeated:
    """Return the records that are superseded, and those that are ambiguous.

    `pages` returns the pages of one slice from the first one on. It is called a second time if two hashes are equal.
    """
    dataset, operation = layout.dataset, layout.operation
    columns = tuple(key_leaves(dataset.key, operation.record))
    reader = Reader(dataset, operation, (*columns, *([dataset.order_by] if dataset.order_by else [])))
    hashes = KeyHashes(layout, reader)
    for page in pages():
        hashes.add(reader.read_page(page))
    suspects = hashes.suspects()
    if not suspects:
        return Repeated()
    return _judge(_suspected(layout, reader, hashes.keys_of, suspects, pages()))


class KeyHashes:
    """Hashes of the keys of one slice, which tell whether one may be there twice. `reader` has read the records."""

    def __init__(self, layout: Layout, reader: Reader) -> None:
        self.keys_of = _keys_of(layout, reader)
        self._found = array("q")  # grows in place: a second copy of all would be the peak of a large export

    def add(self, found: PageRecords) -> None:
        """Add the keys of the records of one page."""
        self._found.extend(map(hash, self.keys_of(found)))

    def suspects(self) -> frozenset[int]:
        """Return the hashes that are there more than once."""
        hashes = np.frombuffer(self._found, np.int64)
        hashes.sort()
        return frozenset(hashes[1:][hashes[1:] == hashes[:-1]].tolist())


def _keys_of(layout: Layout, reader: Reader) -> Callable[[PageRecords], Iterator[Hashable]]:
    """Return a function from records to the key of each; equal keys are equal values."""
    if layout.digest:

        def digests(found: PageRecords) -> Iterator[Hashable]:
            raw = reader.raw(found.page)
            return (record_digest(raw[position]) for position in found.positions)

        return digests
    parts = []
    for path, member in key_leaves(layout.dataset.key, layout.operation.record).values():
        parts.append((getter(reader.record, path), member.kind in KEY_KINDS))

    def keys(found: PageRecords) -> Iterator[Hashable]:
        columns = (get(found.values) if is_plain else map(_encoded, get(found.values)) for get, is_plain in parts)
        return zip(*columns, strict=True)

    return keys


def _suspected(
    layout: Layout,
    reader: Reader,
    keys_of: Callable[[PageRecords], Iterator[Hashable]],
    suspects: frozenset[int],
    pages: Iterable[Page],
) -> Collection[_Records]:
    """Return the records whose key has one of these hashes and that fit, by key."""
    record, order_by = layout.operation.record, layout.dataset.order_by
    order = getter(reader.record, _path(layout, order_by)) if order_by else None
    lists = [i for i, member in enumerate(record.members) if member.kind == "list"]
    sieve = Sieve(layout)
    by_key: dict[Hashable, _Records] = {}
    for page in pages:
        found = reader.read_page(page)
        orders = order(found.values) if order else [None] * len(found.values)
        some = {
            position: (key, order_value)
            for position, key, order_value in zip(found.positions, keys_of(found), orders, strict=True)
            if hash(key) in suspects
        }
        if not some:
            continue
        others = frozenset(range(page.first, page.stop)) - some.keys()
        fitting = sieve.sift(sieve.reader.read_page(page, others))
        for position, value, extra in zip(fitting.positions, fitting.values, fitting.extras, strict=True):
            key, order_value = some[position]
            rank = _LEAST if order_value is None else instant_us(order_value)
            entries = [frozenset(map(hash, map(_encoded, getattr(value, f"m{i}") or ()))) for i in lists]
            content = hashlib.sha256(_encoded([value, extra])).digest()
            _add(by_key.setdefault(key, _Records()), page, (rank, page.number, position), content, entries)
    return by_key.values()


def _add(
    records: _Records, page: Page, this: tuple[int, int, int], content: bytes, entries: Sequence[frozenset[int]]
) -> None:
    """Add a record to those with the same key, and note if it cannot be the same thing as one of them."""
    if records.ranks and content != records.content:
        before, last = records.ranks[-1], this
        # The AWS CLI joins pages, so what a dump has on one page may have been on two: then an instant decides.
        is_version = before[0] != last[0] and (before[1] != last[1] or not page.request_id)
        goes_on = any(a and b and a.isdisjoint(b) for a, b in zip(records.entries, entries, strict=True))
        pair = before[1:], last[1:]
        records.differing = records.differing or pair
        if not is_version and (before[1] == last[1] or goes_on) and not records.example:
            records.example = pair
    records.ranks.append(this)
    records.content, records.entries = content, entries


def _judge(found: Collection[_Records]) -> Repeated:
    """Return what becomes of repeated records. A key that is proven to be wrong tells nothing on two pages either."""
    superseded: dict[int, set[int]] = {}
    ambiguous: dict[int, dict[int, str]] = {}
    is_wrong = any(records.example for records in found)
    for records in found:
        if example := records.example or (records.differing if is_wrong else None):
            one, other = (f"record {position} of page {number}" for number, position in example)
            for _, number, position in records.ranks:
                ambiguous.setdefault(number, {})[position] = f"{one} and {other}"
            continue
        for _, number, position in sorted(records.ranks)[:-1]:
            superseded.setdefault(number, set()).add(position)
    return Repeated({number: frozenset(positions) for number, positions in superseded.items()}, ambiguous)


def _path(layout: Layout, column: str) -> Sequence[str]:
    (path,) = (path.split(".") for name, path, _ in leaves(layout.operation.record) if name == column)
    return path
