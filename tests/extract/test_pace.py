"""The pace at which a place is asked: learned from its answers, shared by its slices, on a clock of the test."""

import datetime as dt

import pytest

from etl.config import Retry
from etl.errors import CredentialsError, LaterError, SourceError, TransientSourceError
from etl.extract.pace import Paces
from etl.extract.patience import SameAnswerError

KEY = ("111111111111", "us-west-2", "nimble")
OTHER = ("222222222222", "us-west-2", "nimble")
LIMITS = Retry(timeout=dt.timedelta(seconds=60), wait_max=dt.timedelta(seconds=8))


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def paces(clock):
    return Paces(LIMITS, clock)


def throttled(_tried):
    raise TransientSourceError("slow down", throttled=True)


def refuse_for_now(paces, key=KEY, name="a", request=throttled):
    with pytest.raises(LaterError) as caught:
        paces.ask(key, name, "page 1", request)
    return caught.value.wait_s


def test_a_place_that_never_throttled_is_asked_at_once(paces):
    assert [paces.ask(KEY, "a", "page 1", lambda tried: tried) for _ in range(3)] == [0, 0, 0]
    assert paces.wait_s(KEY, running=7) == 0


def test_each_answer_that_asks_for_fewer_requests_halves_the_pace_of_the_place_alone(paces, clock):
    waits = []
    for _ in range(7):
        refuse_for_now(paces)
        waits.append(paces.wait_s(KEY, 0))
        clock.now += waits[-1]
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 8]  # wait_max is the longest
    assert paces.wait_s(OTHER, 0) == 0


def test_slices_of_a_place_share_its_pace(paces, clock):
    """Nobody asks before the next turn, and no second walk of the place takes a thread."""
    refuse_for_now(paces, name="a")
    assert refuse_for_now(paces, name="b") == pytest.approx(0.25)  # without a request
    clock.now += 0.25
    assert paces.wait_s(KEY, running=0) == 0
    assert paces.wait_s(KEY, running=1) > 0
    assert paces.ask(KEY, "b", "page 1", lambda tried: tried) == 0  # that turn was no try


def test_requests_that_were_under_way_together_slow_the_place_once(paces):
    def at_the_same_time(_tried):
        refuse_for_now(paces, name="b")
        throttled(0)

    refuse_for_now(paces, name="a", request=at_the_same_time)
    assert paces.wait_s(KEY, 0) == 0.25


def test_pages_make_a_place_faster_until_there_is_no_pace(paces, clock):
    refuse_for_now(paces)
    turns = 0
    while paces.wait_s(KEY, running=1):
        clock.now += paces.wait_s(KEY, running=0)
        paces.ask(KEY, "a", "page 1", lambda tried: tried)
        turns += 1
    assert 10 < turns < 20


def test_a_request_is_told_how_often_it_was_tried(paces, clock):
    refuse_for_now(paces)
    clock.now += 8
    refuse_for_now(paces)
    clock.now += 8
    assert paces.ask(KEY, "a", "page 1", lambda tried: tried) == 2
    clock.now += 8
    assert paces.ask(KEY, "a", "page 2", lambda tried: tried) == 0


def test_a_place_that_answers_nothing_else_is_given_up_as_a_whole(paces, clock):
    """Its other slices end at once: the first of them has waited for all."""
    asked = []

    def request(tried):
        asked.append(tried)
        throttled(tried)

    while clock.now < 1000:
        try:
            paces.ask(KEY, "a", "page 1", request)
        except LaterError:
            clock.now += max(paces.wait_s(KEY, 0), 0.01)
        except TransientSourceError as exc:
            assert "nimble asks for fewer requests in account 111111111111, us-west-2, " in str(exc)  # noqa: PT017
            assert "for 60 s (source.retry.timeout); run again" in str(exc)  # noqa: PT017
            break
    assert clock.now - 100 == pytest.approx(60, abs=8)
    assert len(asked) < 15
    assert paces.wait_s(KEY, running=3) == 0
    with pytest.raises(TransientSourceError, match="page 9: nimble asks for fewer"):
        paces.ask(KEY, "b", "page 9", asked.append)
    assert len(asked) < 15


def test_another_passing_failure_is_the_slice_s_own(paces, clock):
    def fail(_tried):
        raise TransientSourceError("internal error")

    assert 0 < refuse_for_now(paces, request=fail) <= 0.5
    assert paces.wait_s(KEY, running=3) == 0
    assert paces.ask(KEY, "b", "page 1", lambda tried: tried) == 0
    clock.now += 60
    with pytest.raises(TransientSourceError, match="internal error") as caught:
        paces.ask(KEY, "a", "page 1", fail)
    assert not isinstance(caught.value, LaterError)


@pytest.mark.parametrize("error", [SourceError, CredentialsError, SameAnswerError])
def test_what_a_repetition_does_not_help_is_raised_as_it_is(paces, error):
    def refuse(_tried):
        raise error("no")

    with pytest.raises(error, match=r"^no$"):
        paces.ask(KEY, "a", "page 1", refuse)
