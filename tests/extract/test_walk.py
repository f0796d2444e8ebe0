"""The walk, against sources that are pure functions: a token leads to a page, and nothing else happens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shapes import page, part

from etl.errors import PageTokenError, TransientSourceError
from etl.extract.walk import walk
from etl.model import Checkpoint


class Listing:
    """A listing of `sizes[i]` records on page i. Tokens count records, as a paginator's do, so it can be cut anywhere.

    `follow` changes the token that follows a position; `asked` holds what was fetched, in order.
    """

    def __init__(self, sizes, follow=None):
        self.records = [f"{i}.{j}" for i, size in enumerate(sizes) for j in range(size)]
        self.ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        self.follow = follow or {}
        self.asked = []

    def fetch(self, number, token, most):
        self.asked.append((number, token, most))
        start = int(token or 0)
        end = next((end for i, end in enumerate(self.ends) if end > start or i == len(self.ends) - 1), 0)
        end = end if most is None else min(end, start + most)
        following = self.follow.get(end, str(end) if end < len(self.records) else None)
        return page([{"thingId": record} for record in self.records[start:end]], number, token=following)


def take(listing, checkpoint=Checkpoint(), *, max_items=None, max_pages=1000, stop_after=None):  # noqa: B008  it is frozen
    """Return the pages of a walk; it is told to stop after some of them."""
    pages = []
    for found in walk(
        part(), listing.fetch, checkpoint, max_items=max_items, max_pages=max_pages,
        stopped=lambda: stop_after is not None and len(pages) >= stop_after,
    ):  # fmt: skip
        pages.append(found)  # noqa: PERF402  `stopped` looks at it
    return pages


def after(pages, before=Checkpoint()):  # noqa: B008
    """Return the checkpoint that a ledger has once these pages are stored."""
    tokens = {found.next_starting_token for found in pages} - {None}
    return Checkpoint(
        pages[-1].next_starting_token if pages else before.starting_token,
        before.pages + len(pages),
        before.seen | tokens,
    )


def records(pages):
    return [record for found in pages for record in found.body.split(b'"') if record[:1].isdigit() and b"." in record]


SIZES = st.lists(st.integers(0, 4), min_size=1, max_size=8).map(lambda sizes: [*sizes, 1])


@settings(deadline=None)
@given(SIZES)
def test_walk_yields_every_record_once_in_order_and_then_ends(sizes):
    listing = Listing(sizes)
    pages = take(listing)
    assert records(pages) == [record.encode() for record in listing.records]
    assert [found.number for found in pages] == list(range(1, len(pages) + 1))
    assert [found.next_starting_token is None for found in pages] == [False] * (len(pages) - 1) + [True]


@settings(deadline=None)
@given(SIZES, st.integers(0, 9))
def test_resume_at_any_page_gives_the_same_pages(sizes, cut):
    whole = take(Listing(sizes))
    first = take(Listing(sizes), stop_after=cut)
    if len(first) < len(whole):
        rest = take(Listing(sizes), after(first))
        assert first + rest == whole


@settings(deadline=None)
@given(SIZES, st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_any_sequence_of_maxima_gives_the_same_records(sizes, maxima):
    """`--max-items` cuts inside a page; the next run goes on behind the cut."""
    listing, pages, checkpoint = Listing(sizes), [], Checkpoint()
    for most in maxima:
        some = take(Listing(sizes), checkpoint, max_items=most)
        assert sum(found.kept for found in some) <= most
        pages += some
        checkpoint = after(some, checkpoint)
        if pages[-1].next_starting_token is None:
            break
    else:
        assert sum(found.kept for found in pages) == sum(maxima)
        pages += take(Listing(sizes), checkpoint)
    assert records(pages) == [record.encode() for record in listing.records]


def test_next_page_is_asked_for_only_when_the_caller_comes_back():
    """The caller stores the page in between: the checkpoint of page n exists before page n + 1 is requested."""
    listing = Listing([1, 1, 1])
    pages = walk(part(), listing.fetch, Checkpoint(), max_items=None, max_pages=9, stopped=lambda: False)
    assert listing.asked == []
    for n in (1, 2, 3):
        assert next(pages).number == n
        assert len(listing.asked) == n
    assert list(pages) == []
    assert len(listing.asked) == 3


def test_page_numbers_and_tokens_go_on_from_the_checkpoint():
    listing = Listing([2, 2, 2])
    take(listing, Checkpoint("2", 7, frozenset({"2"})))
    assert listing.asked == [(8, "2", None), (9, "4", None)]


def test_maximum_that_is_left_is_passed_on():
    listing = Listing([2, 2, 2])
    assert [found.kept for found in take(listing, max_items=3)] == [2, 1]
    assert [most for _, _, most in listing.asked] == [3, 1]


def test_nothing_is_asked_for_once_told_to_stop():
    listing = Listing([1, 1])
    assert take(listing, stop_after=0) == []
    assert listing.asked == []


def test_fault_44_stop_ends_the_walk_between_pages_and_it_can_be_resumed():
    listing = Listing([1, 1, 1])
    pages = take(listing, stop_after=2)
    assert len(pages) == len(listing.asked) == 2
    assert pages[-1].next_starting_token == "2"


def test_fault_14_empty_page_with_a_token_is_no_end():
    def fetch(number, token, most):  # noqa: ARG001
        return page([], number, token={None: "a", "a": "b", "b": None}[token])

    pages = list(walk(part(), fetch, Checkpoint(), max_items=None, max_pages=9, stopped=lambda: False))
    assert [found.next_starting_token for found in pages] == ["a", "b", None]


def test_fault_11_same_token_twice_in_a_row_is_an_error():
    listing = Listing([1, 1, 1], follow={2: "1"})
    with pytest.raises(PageTokenError, match=r"page 2: its next token was followed before"):
        take(listing)
    assert len(listing.asked) == 2


@pytest.mark.parametrize("back_to", ["1", "2", "3"])
def test_fault_12_token_cycle_of_any_length_is_an_error(back_to):
    listing = Listing([1] * 5, follow={4: back_to})
    with pytest.raises(PageTokenError, match="page 4"):
        take(listing)


def test_fault_12_cycle_through_a_checkpoint_is_an_error():
    """What an earlier process followed counts too."""
    first = take(Listing([1] * 6), stop_after=3)
    with pytest.raises(PageTokenError, match="page 5"):
        take(Listing([1] * 6, follow={5: "1"}), after(first))


def test_fault_12_cycle_back_to_the_operators_own_starting_token_is_an_error():
    listing = Listing([1] * 6, follow={4: "2"})
    with pytest.raises(PageTokenError, match="page 2"):
        take(listing, Checkpoint("2"))
    assert [token for _, token, _ in listing.asked] == ["2", "3"]


def test_page_whose_token_was_followed_before_is_not_yielded():
    """It would be stored, and the walk would look as if it stood there."""
    listing = Listing([1, 1, 1], follow={2: "1"})
    pages = walk(part(), listing.fetch, Checkpoint(), max_items=None, max_pages=9, stopped=lambda: False)
    assert next(pages).number == 1
    with pytest.raises(PageTokenError):
        next(pages)


def test_fault_13_endless_fresh_tokens_end_at_the_page_cap():
    def fetch(number, token, most):  # noqa: ARG001
        return page([{}], number, token=str(number))

    pages = walk(part(), fetch, Checkpoint(), max_items=None, max_pages=25, stopped=lambda: False)
    for n in range(1, 26):
        assert next(pages).number == n
    with pytest.raises(PageTokenError, match=r"25 pages and still a token; .*run\.max_pages"):
        next(pages)


def test_listing_that_ends_exactly_at_the_page_cap_is_whole():
    assert len(take(Listing([1] * 5), max_pages=5)) == 5
    with pytest.raises(PageTokenError):
        take(Listing([1] * 6), max_pages=5)


def test_page_cap_counts_the_pages_before_the_checkpoint():
    with pytest.raises(PageTokenError):
        take(Listing([1] * 6), Checkpoint("3", 3, frozenset("123")), max_pages=5)


def test_error_of_the_source_comes_out_after_the_pages_before_it():
    listing = Listing([1, 1])

    def fetch(number, token, most):
        if number == 2:
            raise TransientSourceError("timed out")
        return listing.fetch(number, token, most)

    pages = walk(part(), fetch, Checkpoint(), max_items=None, max_pages=9, stopped=lambda: False)
    assert next(pages).number == 1
    with pytest.raises(TransientSourceError, match="timed out"):
        next(pages)


@settings(deadline=None)
@given(
    st.dictionaries(st.text(max_size=2), st.one_of(st.none(), st.text(max_size=2)), max_size=6),
    st.one_of(st.none(), st.text(max_size=2)),
)
def test_any_graph_of_tokens_ends_and_no_token_is_followed_twice(follows, first):
    """Whatever a service answers: the walk ends, at None or with an error."""
    asked = []

    def fetch(number, token, most):  # noqa: ARG001
        asked.append(token)
        return page([{}], number, token=first if token is None else follows.get(token))

    try:
        pages = list(walk(part(), fetch, Checkpoint(), max_items=None, max_pages=50, stopped=lambda: False))
    except PageTokenError:
        pass
    else:
        assert pages[-1].next_starting_token is None
    assert len(asked) == len(set(asked)) <= len(follows) + 2
