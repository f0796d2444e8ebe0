"""The line in which slices wait for a thread: places take turns, and who must wait keeps nobody else waiting."""

import datetime as dt
import heapq
from itertools import count

import pytest

from etl.config import Retry
from etl.errors import EtlError, LaterError, TransientSourceError
from etl.extract.pace import Paces
from etl.model import Slice
from etl.pipeline.line import Line

THREADS, PAGES, SLICES = 8, 10, 20
SLOW = "account 0"


def key_of(slice_):
    return slice_.account_id, slice_.region, "nimble"


def slices_of(account, number=SLICES):
    return [Slice("sessions", account, "us-west-2", {"studioId": str(one)}) for one in range(number)]


@pytest.fixture
def line():
    return Line(key_of, lambda _slice, _running: 0.0)


def test_slices_of_one_place_are_walked_in_order(line):
    line.add(slices_of("a", 3))
    assert [line.next().parents["studioId"] for _ in range(3)] == ["0", "1", "2"]


def test_places_take_turns(line):
    for account in "abc":
        line.add(slices_of(account, 2))
    assert [line.next().account_id for _ in range(6)] == list("abcabc")


def test_the_line_ends_when_nothing_waits_and_nothing_is_walked(line):
    (one,), more = slices_of("a", 1), slices_of("b", 1)
    line.add([one])
    assert line.next() is one
    assert line.next() == float("inf")  # what comes from that slice is not known yet
    line.leave(one, more)
    assert [line.take(lambda: False)] == more
    line.leave(more[0])
    assert line.take(lambda: False) is None


def test_the_order_to_stop_ends_the_line(line):
    line.add(slices_of("a"))
    assert line.take(lambda: True) is None


def test_a_slice_that_waits_comes_back_when_its_time_is_over():
    now = 0.0
    line = Line(key_of, lambda _slice, _running: 0.0, lambda: now)
    first, second = slices_of("a", 2)
    line.add([first, second])
    assert line.next() is first
    line.leave(first, again_in=5.0)
    assert line.next() is second
    line.leave(second)
    assert line.next() == 5.0
    now = 5.0
    assert line.next() is first


def night(accounts, refuse=()):
    """Spend a night on a clock of its own. Return when the last slice of the others ended, and requests by account.

    Each of 8 threads walks slices of 10 pages, and a page takes a second.
    """
    now, order, asked, ends = 0.0, count(), dict.fromkeys(accounts, 0), {}
    paces = Paces(Retry(timeout=dt.timedelta(hours=1), wait_max=dt.timedelta(seconds=30)), lambda: now)
    line = Line(key_of, lambda slice_, running: paces.wait_s(key_of(slice_), running), lambda: now)
    for account in accounts:
        line.add(slices_of(account))
    left = dict.fromkeys((slice_.slice_id for account in accounts for slice_ in slices_of(account)), PAGES)

    def page(slice_):
        asked[slice_.account_id] += 1
        if slice_.account_id in refuse:
            raise TransientSourceError("slow down", throttled=True)
        left[slice_.slice_id] -= 1

    threads = [(0.0, next(order), None) for _ in range(THREADS)]
    while threads:
        now, _, slice_ = heapq.heappop(threads)
        if slice_ is None:
            slice_ = line.next()
            if isinstance(slice_, Slice):
                heapq.heappush(threads, (now + 1, next(order), slice_))
            elif slice_ is not None:
                heapq.heappush(threads, (now + min(slice_, 0.5), next(order), None))
            continue
        try:
            paces.ask(key_of(slice_), slice_.slice_id, "page", lambda _tried, one=slice_: page(one))
        except LaterError as exc:
            line.leave(slice_, again_in=exc.wait_s)
            slice_ = None
        except EtlError:
            line.leave(slice_)
            slice_ = None
        else:
            if not left[slice_.slice_id]:
                ends[slice_.account_id] = now
                line.leave(slice_)
                slice_ = None
        heapq.heappush(threads, (now + (slice_ is not None), next(order), slice_))
    return max(at for account, at in ends.items() if account not in refuse), asked


def test_an_account_that_throttles_for_ever_does_not_slow_the_others():
    """Within a fifth, as the thread that it takes now and then is an eighth of all."""
    accounts = [f"account {number}" for number in range(5)]
    without, _ = night(accounts[1:])
    with_it, asked = night(accounts, refuse={SLOW})
    assert with_it <= 1.2 * without
    assert 10 < asked[SLOW] < 200  # an hour long, at most every 30 seconds in the end
    assert all(asked[account] == SLICES * PAGES for account in accounts[1:])
