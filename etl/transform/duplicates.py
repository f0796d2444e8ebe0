"""Records that a walk saw more than once: which of them are superseded.

Sessions move between pages while one lists them. A key seen twice is kept once: the newest by `order_by`, then the
later one. Memory is 8 bytes a record; keys themselves are only looked at where their hashes meet.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from etl.errors import RecordError
from etl.model import Dataset, Operation, Page, leaves
from etl.transform.arrays import getter, instant_us
from etl.transform.records import Reader

_LEAST = -(2**63)


def find_superseded(
    dataset: Dataset, operation: Operation, pages: Callable[[], Iterable[Page]]
) -> dict[int, frozenset[int]]:
    """Return page number -> positions of the records that a better one of the same key supersedes.

    Args:
        dataset: says what the key and the order are.
        operation: the shapes.
        pages: gives the pages of one slice from the start, each time it is called. Called once; twice if any two
            keys may be equal.
    """
    reader = Reader(dataset, operation, (*dataset.key, *([dataset.order_by] if dataset.order_by else [])))
    paths = {name: path.split(".") for name, path, _ in leaves(operation.record)}
    pruned = reader.record
    keys = [getter(pruned, paths[name]) for name in dataset.key]
    order = getter(pruned, paths[dataset.order_by]) if dataset.order_by else None

    def keys_of(values: Sequence[Any]) -> Iterator[tuple[object, ...]]:
        return zip(*(get(values) for get in keys), strict=True)

    def entries(page: Page) -> Iterator[tuple[int, tuple[object, ...], object]]:
        found = reader.read_page(page)
        orders = order(found.values) if order else [None] * len(found.values)
        yield from zip(found.positions, keys_of(found.values), orders, strict=True)

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
    for page in pages():
        for position, key, order_value in entries(page):
            if hash(key) not in suspects:
                continue
            this = (_rank(order_value), page.number, position)
            worse = min(this, best.get(key, this))
            best[key] = max(this, best.get(key, this))
            if worse != this or best[key] != this:
                superseded.setdefault(worse[1], set()).add(worse[2])
    return {number: frozenset(positions) for number, positions in superseded.items()}


def _rank(order_value: object) -> int:
    """Return a number that grows with an order value; the least for one that is absent or no instant."""
    if not isinstance(order_value, str | float):
        return _LEAST
    try:
        return instant_us(order_value)
    except RecordError:
        return _LEAST
