"""Repeats a request and limits how long it is waited for. No other layer repeats requests."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

import tenacity

from etl.config import Retry
from etl.errors import TransientSourceError

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

    def ask(self, place: str, request: Callable[[], Answer]) -> Answer:
        """Return the answer to `request`, repeated while it fails for a passing reason; `place` begins messages.

        Raises:
            TransientSourceError: it still fails when the time is over, or at the order to stop.
            EtlError: any other error of the request, at once.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientSourceError),
            stop=tenacity.stop_after_delay(self._limits.timeout) | tenacity.stop_when_event_set(self._stop),
            wait=tenacity.wait_random_exponential(0.5, max=self._limits.wait_max.total_seconds()),
            sleep=tenacity.sleep_using_event(self._stop),
            before_sleep=lambda state: log.warning("%s; trying again", state.outcome and state.outcome.exception()),
            reraise=True,
        )
        answer: Answer = retrying(self._unless_stopped, place, request)
        return answer

    def _unless_stopped(self, place: str, request: Callable[[], Answer]) -> Answer:
        """Ask in a thread that can be abandoned, because nothing interrupts a thread that waits for a socket."""
        answer: Future[Answer] = Future()
        threading.Thread(target=_resolve, args=(answer, request), name="request", daemon=True).start()
        while not wait([answer], _LOOK_S).done:
            if self._stop.is_set() and not wait([answer], _GRACE_S).done:
                raise TransientSourceError(f"{place}: no answer came before the stop; run again to go on")
        return answer.result()


def _resolve(answer: "Future[Answer]", request: Callable[[], Answer]) -> None:
    try:
        answer.set_result(request())
    except BaseException as exc:  # noqa: BLE001  raised again where the answer is waited for
        answer.set_exception(exc)
