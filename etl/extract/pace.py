"""How fast each service of each account and Region may be asked, learned from its answers.

AWS counts requests by account, Region and service. So whatever asks for the same place waits together: the first answer
that asks for fewer requests sets a pace for all of them, each further one halves it, and every page makes it a little
faster, until there is no pace any more. Nobody sleeps here. Whoever comes too early gets a `LaterError`, and can give
its thread to a walk of another place meanwhile.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from etl.config import Retry
from etl.errors import LaterError, TransientSourceError
from etl.extract.patience import may_pass

Key = tuple[str, str, str]
"""Account, Region and service."""
Answer = TypeVar("Answer")

_FIRST_S = 0.25
"""Time between two requests after the first answer that asks for fewer."""
_SLOWER, _FASTER = 2.0, 0.9
_NO_PACE_S = 0.05
"""A shorter time between two requests is none."""


@dataclass
class _Pace:
    """The pace of one place. Times are seconds of the clock; `interval_s` is 0 if there is no pace."""

    interval_s: float = 0.0
    next_at: float = 0.0
    slowed_at: float = 0.0
    since: float | None = None
    """When the answers that ask for fewer requests began; None: there was a page after the last one."""


@dataclass
class _Trouble:
    """Failed tries of one page."""

    since: float
    tries: int = 0


class Paces:
    """The paces of all places. Safe to use from several threads.

    `limits` has the time after which a page is given up, and the longest pause. `clock` returns seconds.
    """

    def __init__(self, limits: Retry, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s = limits.timeout.total_seconds()
        self._longest_s = limits.wait_max.total_seconds()
        self._clock = clock
        self._lock = threading.Lock()
        self._paces: dict[Key, _Pace] = {}
        self._troubles: dict[str, _Trouble] = {}

    def wait_s(self, key: Key, running: int) -> float:
        """Return how long not to begin another walk of a place, of which some are `running`. 0: begin it now."""
        with self._lock:
            pace = self._paces.get(key)
            if pace is None or not pace.interval_s or self._is_over(pace):
                return 0.0
            # One walk at a time is enough to ask at this pace. The others would only take threads.
            return max(0.0, pace.next_at - self._clock(), pace.interval_s if running else 0.0)

    def ask(self, key: Key, name: str, place: str, request: Callable[[int], Answer]) -> Answer:
        """Return the answer to a request for the next page of a slice, which `name` identifies.

        `request` is called with the number of tries that have failed; `place` begins messages.

        Raises:
            LaterError: it is too early, or the request failed for a passing reason.
            TransientSourceError: the time limit is over.
            EtlError: any other error of the request.
        """
        sent_at = self._reserve(key, place)
        trouble = self._troubles.get(name)
        try:
            answer = request(trouble.tries if trouble else 0)
        except TransientSourceError as exc:
            if not may_pass(exc):
                raise
            raise self._later(key, name, sent_at, exc) from exc
        with self._lock:
            self._troubles.pop(name, None)
            if pace := self._paces.get(key):
                pace.since = None
                pace.interval_s = faster if (faster := pace.interval_s * _FASTER) >= _NO_PACE_S else 0.0
        return answer

    def _reserve(self, key: Key, place: str) -> float:
        """Take the next turn in a place, and return the present instant."""
        with self._lock:
            now, pace = self._clock(), self._paces.get(key)
            if pace is not None and self._is_over(pace):
                raise TransientSourceError(f"{place}: {self._over(key)}")
            if pace is not None and pace.interval_s:
                if pace.next_at > now:
                    raise LaterError(f"{place}: {' '.join(key)} is asked slowly", pace.next_at - now)
                pace.next_at = now + pace.interval_s
            return now

    def _later(self, key: Key, name: str, sent_at: float, exc: TransientSourceError) -> TransientSourceError:
        """Note a failure for a passing reason, and return the error to raise."""
        with self._lock:
            now = self._clock()
            trouble = self._troubles.setdefault(name, _Trouble(now))
            trouble.tries += 1
            wait_s = min(self._longest_s, _FIRST_S * _SLOWER**trouble.tries) * random.uniform(0.5, 1)  # noqa: S311  no secret
            if exc.throttled:
                pace = self._paces.setdefault(key, _Pace())
                pace.since = now if pace.since is None else pace.since
                if sent_at > pace.slowed_at or not pace.interval_s:  # what was under way then says nothing new
                    slower = max(_FIRST_S, pace.interval_s * _SLOWER)
                    pace.interval_s, pace.slowed_at = min(self._longest_s, slower), now
                    pace.next_at = now + pace.interval_s
                wait_s = 0.0  # `wait_s` of the place decides
                if self._is_over(pace):
                    return TransientSourceError(f"{exc}; {self._over(key)}")
            if now - trouble.since >= self._timeout_s:
                return exc
        return LaterError(str(exc), wait_s)

    def _is_over(self, pace: _Pace) -> bool:
        return pace.since is not None and self._clock() - pace.since >= self._timeout_s

    def _over(self, key: Key) -> str:
        account_id, region, service = key
        return (
            f"{service} asks for fewer requests in account {account_id}, {region}, and has answered no other request "
            f"for {self._timeout_s:g} s (source.retry.timeout); run again to go on"
        )
