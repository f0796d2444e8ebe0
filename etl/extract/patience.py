"""Repeats a request and limits how long it is waited for. No other layer repeats requests."""

import logging
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import tenacity

from etl.config import Retry
from etl.errors import CredentialsError, SameAnswerError, TransientSourceError

log = logging.getLogger(__name__)

_LOOK_S = 0.5
"""How often, while a request is under way, the order to stop is looked for."""
_GRACE_S = 5.0
"""How long an answer may take after the order to stop; a page that arrives in time is stored."""

Answer = TypeVar("Answer")


class Patience:
    """Repeats requests until an answer, a lasting error, the time limit, or the order to stop.

    `limits` has the time for all tries together and the longest pause; `stop` ends every wait within seconds.
    """

    def __init__(self, limits: Retry, stop: threading.Event) -> None:
        self._limits = limits
        self._stop = stop
        self._mine = threading.local()

    def ask(self, place: str, request: Callable[[], Answer], begun: "Begun[Answer] | None" = None) -> Answer:
        """Return the answer to `request`, repeated while it fails for a passing reason; `place` begins messages.

        If it has `begun` already, that is the first try.

        Raises:
            TransientSourceError: it still fails when the time is over, or at the order to stop.
            EtlError: any other error of the request, at once.
        """
        first: list[TransientSourceError] = []
        until = time.monotonic() + self._limits.timeout.total_seconds()
        try:
            return self.ask_once(place, request, begun)
        except TransientSourceError as exc:
            first.append(exc)

        def again() -> Answer:
            if first:
                raise first.pop()
            return self.ask_once(place, request)

        retrying = tenacity.Retrying(  # only now: it costs as much as a tenth of a request
            retry=tenacity.retry_if_exception(may_pass),
            stop=tenacity.stop_after_delay(max(until - time.monotonic(), 0)) | tenacity.stop_when_event_set(self._stop),
            wait=tenacity.wait_random_exponential(0.5, max=self._limits.wait_max.total_seconds()),
            sleep=tenacity.sleep_using_event(self._stop),
            before_sleep=lambda state: log.warning("%s; trying again", state.outcome and state.outcome.exception()),
            reraise=True,
        )
        answer: Answer = retrying(again)
        return answer

    def begin(self, request: Callable[[], Answer]) -> "Begun[Answer]":
        """Begin a request, for `ask` or `ask_once` in the same thread.

        It is asked in a thread that can be abandoned, because nothing interrupts a thread that waits for a socket.
        """
        asker = getattr(self._mine, "asker", None) or _Asker()
        self._mine.asker = None
        return Begun(asker, asker.ask(request))

    def ask_once(self, place: str, request: Callable[[], Answer], begun: "Begun[Answer] | None" = None) -> Answer:
        """Return the answer to `request`, which is not repeated. The order to stop ends the wait.

        Raises:
            TransientSourceError: no answer came soon enough after the order to stop.
            EtlError: any error of the request.
        """
        begun = begun or self.begin(request)
        while not begun.is_there(_LOOK_S):
            if self._stop.is_set() and not begun.is_there(_GRACE_S):
                raise TransientSourceError(f"{place}: no answer came before the stop; run again to go on")
        self._mine.asker = begun.asker  # it has nothing to do: the next request of this walk need not start another
        return begun.answer.result()


def may_pass(exc: BaseException) -> bool:
    """Tell whether a repetition may help: it does not renew credentials."""
    return isinstance(exc, TransientSourceError) and not isinstance(exc, CredentialsError | SameAnswerError)


@dataclass(frozen=True, slots=True)
class Begun(Generic[Answer]):
    """A request that is under way."""

    asker: "_Asker"
    answer: "Future[Answer]"

    def is_there(self, seconds: float) -> bool:
        """Wait so long for an answer or an error, and tell whether one is there."""
        with suppress(TimeoutError):
            self.answer.exception(seconds)
        return self.answer.done()


class _Asker:
    """A thread that asks for one walk, request after request. It ends with the object."""

    def __init__(self) -> None:
        requests: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=_resolve, args=(requests,), name="request", daemon=True).start()
        weakref.finalize(self, requests.put, None)
        self._requests = requests

    def ask(self, request: Callable[[], Answer]) -> "Future[Answer]":
        answer: Future[Answer] = Future()
        self._requests.put((answer, request))
        return answer


def _resolve(requests: "SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]") -> None:
    while asked := requests.get():
        answer, request = asked
        try:
            answer.set_result(request())
        except BaseException as exc:  # noqa: BLE001  raised again where the answer is waited for
            answer.set_exception(exc)
        del asked, answer, request  # a page, and what it came from, are the walk's alone
