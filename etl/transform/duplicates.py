"""Finds the records that a better record of the same key supersedes within one walk.

Sessions move between pages during a listing, so one session may appear twice. Of the records with one key, the newest
by `order_by` stays; among equals, the later one. A record that does not fit becomes a reject and supersedes none. The
search needs 8 bytes of memory per record: it compares keys only where their hashes are equal.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from etl.model import Page, leaves
from etl.transform.arrays import getter, instant_us
from etl.transform.records import Reader
from etl.transform.schema import Layout
from etl.transform.sieve import Sieve

_LEAST = -(2**63)
"""Ranks below every instant."""


def find_superseded(layout: Layout, pages: Callable[[], Iterable[Page]]) -> dict[int, frozenset[int]]:
    """Return page number -> positions of the records that a better record of the same key supersedes.

    `pages` returns the pages of one slice from the first one on. It is called a second time if two hashes are equal.
    """
    dataset, operation = layout.dataset, layout.operation
    reader = Reader(dataset, operation, (*dataset.key, *([dataset.order_by] if dataset.order_by else [])))
    paths = {name: path.split(".") for name, path, _ in leaves(operation.record)}
    keys = [getter(reader.record, paths[name]) for name in dataset.key]
    order = getter(reader.record, paths[dataset.order_by]) if dataset.order_by else None

    def keys_of(values: Sequence[Any]) -> Iterator[tuple[object, ...]]:
        return zip(*(get(values) for get in keys), strict=True)

    hashes = np.concatenate(
        [np.fromiter(map(hash, keys_of(reader.read_page(page).values)), np.int64) for page in pages()]
        or [np.empty(0, np.int64)]
    )
    hashes.sort()
    suspects = frozenset(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if not suspects:
        return {}
    best: dict[tuple[object, ...], tuple[int, int, int]] = {}
    superseded: dict[int, set[int]] = {}
    sieve = Sieve(layout)
    for page in pages():
        found = reader.read_page(page)
        orders = order(found.values) if order else [None] * len(found.values)
        some = {
            position: (key, order_value)
            for position, key, order_value in zip(found.positions, keys_of(found.values), orders, strict=True)
            if hash(key) in suspects
        }
        others = frozenset(range(page.first, page.stop)) - some.keys()
        for position in sieve.sift(sieve.reader.read_page(page, others)).positions if some else ():
            key, order_value = some[position]
            rank = _LEAST if order_value is None else instant_us(order_value)
            this = (rank, page.number, position)
            worse = min(this, best.get(key, this))
            best[key] = max(this, best.get(key, this))
            if worse != this or best[key] != this:
                superseded.setdefault(worse[1], set()).add(worse[2])
    return {number: frozenset(positions) for number, positions in superseded.items()}
