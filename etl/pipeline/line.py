"""The slices that wait for a thread. Places take turns, so one that answers slowly does not keep the others waiting.

A place is a service of one account in one Region. A walk that must wait, because its place asks for fewer requests or
fails for a passing reason, gives its thread back and stands in line again.
"""

import heapq
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from itertools import count

from etl.model import Slice

Key = tuple[str, str, str]
"""Account, Region and service."""

_LOOK_S = 0.5
"""How often, while nothing can be walked, the order to stop is looked for."""


class Line:
    """Hands out slices to the threads that walk them. Safe to use from several threads.

    `key_of` names the place of a slice. `wait_s` tells how long not to begin another walk of a place, in seconds; it is
    called with the place's next slice and the number of walks that are under way there. `clock` returns seconds.
    """

    def __init__(
        self,
        key_of: Callable[[Slice], Key],
        wait_s: Callable[[Slice, int], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key_of, self._wait_s, self._clock = key_of, wait_s, clock
        self._changed = threading.Condition()
        self._waiting: OrderedDict[Key, deque[Slice]] = OrderedDict()
        self._later: list[tuple[float, int, Slice]] = []
        self._order = count()
        self._running: Counter[Key] = Counter()

    def add(self, slices: Iterable[Slice]) -> None:
        """Put slices at the end of the line."""
        with self._changed:
            for slice_ in slices:
                self._waiting.setdefault(self._key_of(slice_), deque()).append(slice_)
            self._changed.notify_all()

    def take(self, stopped: Callable[[], bool]) -> Slice | None:
        """Return the next slice to walk, as soon as there is one; None if none is left, or at the order to stop.

        The caller gives it back with `leave`.
        """
        with self._changed:
            while not stopped():
                found = self.next()
                if not isinstance(found, float):
                    return found
                self._changed.wait(min(found, _LOOK_S))
        return None

    def next(self) -> Slice | float | None:
        """Return the next slice to walk; or how many seconds to wait; or None if all have been walked."""
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            slice_ = heapq.heappop(self._later)[2]
            self._waiting.setdefault(self._key_of(slice_), deque()).append(slice_)
        shortest = self._later[0][0] - now if self._later else float("inf")
        for _ in range(len(self._waiting)):
            key, slices = self._waiting.popitem(last=False)
            wait_s = self._wait_s(slices[0], self._running[key])
            if wait_s > 0:
                self._waiting[key] = slices
                shortest = min(shortest, wait_s)
                continue
            slice_ = slices.popleft()
            if slices:
                self._waiting[key] = slices  # at the end: the other places come first
            self._running[key] += 1
            return slice_
        return None if shortest == float("inf") and not self._running.total() else shortest

    def leave(self, slice_: Slice, then: Iterable[Slice] = (), *, again_in: float | None = None) -> None:
        """Give a slice back: it is walked, and the slices `then` come from it. Or walk it `again_in` some seconds."""
        with self._changed:
            key = self._key_of(slice_)
            self._running[key] -= 1
            if again_in:
                heapq.heappush(self._later, (self._clock() + again_in, next(self._order), slice_))
            elif again_in is not None:
                self._waiting.setdefault(key, deque()).appendleft(slice_)
            self.add(then)
