"""A request is repeated while that can help, and given up soon after a stop, whatever it waits for."""

import datetime as dt
import gc
import threading
import weakref

import pytest

from etl.config import Retry
from etl.errors import SourceError, TransientSourceError
from etl.extract import patience as module
from etl.extract.patience import Patience

SOON = Retry(timeout=dt.timedelta(seconds=30), wait_max=dt.timedelta(milliseconds=1))


@pytest.fixture
def stop():
    return threading.Event()


def test_passing_failures_are_repeated_until_there_is_an_answer(stop):
    asked = []

    def request():
        asked.append(threading.current_thread())
        if len(asked) < 3:
            raise TransientSourceError("passes")
        return "answer"

    assert Patience(SOON, stop).ask("page 1", request) == "answer"
    assert len(asked) == 3


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_refusal_for_good_is_not_repeated(stop, before):
    """Nor is it after a passing failure."""
    asked = []

    def request():
        asked.append(1)
        if len(asked) <= before:
            raise TransientSourceError("passes")
        if len(asked) == before + 1:
            raise SourceError("no")

    with pytest.raises(SourceError, match="no"):
        Patience(SOON, stop).ask("page 1", request)
    assert len(asked) == before + 1


def test_time_is_over_at_some_point(stop):
    def request():
        raise TransientSourceError("never passes")

    with pytest.raises(TransientSourceError, match="never passes"):
        Patience(Retry(timeout=dt.timedelta(0)), stop).ask("page 1", request)


def test_fault_44_a_request_that_is_never_answered_is_left_behind_after_a_stop(stop, monkeypatch):
    """A socket that waits cannot be interrupted: the process must be able to end without it."""
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    monkeypatch.setattr(module, "_GRACE_S", 0.01)
    never = threading.Event()
    before = {*threading.enumerate()}

    def request():
        stop.set()
        never.wait()

    with pytest.raises(TransientSourceError, match="page 1: no answer came before the stop; run again"):
        Patience(SOON, stop).ask("page 1", request)
    assert stop.is_set()
    (left,) = {thread for thread in threading.enumerate() if thread.name == "request"} - before
    never.set()
    gc.collect()  # of what the error has kept
    left.join(10)
    assert left.daemon, "it does not keep the process alive"


def test_fault_44_an_answer_that_comes_soon_after_a_stop_counts(stop, monkeypatch):
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    waited = threading.Event()
    real = module.Begun.is_there

    def is_there(begun, seconds):
        if seconds == module._GRACE_S:
            waited.set()
        return real(begun, seconds)

    monkeypatch.setattr(module.Begun, "is_there", is_there)

    def request():
        stop.set()
        waited.wait()
        return "the page"

    assert Patience(SOON, stop).ask("page 1", request) == "the page"
    assert waited.is_set()


def test_one_thread_asks_for_one_walk_and_ends_with_it(stop):
    """A thread for each page would cost more than the page."""
    patience = Patience(SOON, stop)
    found = []

    def walk():
        found.append({patience.ask("page", threading.current_thread) for _ in range(5)})

    walks = [threading.Thread(target=walk) for _ in range(2)]
    for one in walks:
        one.start()
        one.join()
    (first,), (second,) = found
    assert first is not second
    for asker in (first, second):
        asker.join(10)
        assert not asker.is_alive()


def test_an_answer_is_not_kept_by_the_thread_that_asked_for_it(stop):
    class Body:
        pass

    patience = Patience(SOON, stop)
    kept = weakref.ref(patience.ask("page", Body))
    patience.ask("page", lambda: None)
    assert kept() is None
