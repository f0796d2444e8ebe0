"""A key seen twice is kept once: the newest, then the later one. Judged against a plain model of that sentence."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shapes import dataset, member, operation, page, structure

from etl.transform import duplicates
from etl.transform.duplicates import find_superseded
from etl.transform.records import Misfit, Reader
from etl.transform.schema import layout_of

SHAPE = structure(
    "thing",
    member("thing_id", "string"),
    member("number", "long"),
    member("updated_at", "timestamp"),
    member("count", "integer"),
)
NIGHT = "2026-11-20T02:00:00Z"


class Pages:
    """Gives the same pages each time it is called, and counts the calls."""

    def __init__(self, lists):
        self.pages = [page(found, number) for number, found in enumerate(lists, start=1)]
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return iter(self.pages)


def superseded(*lists, **changes):
    """Return (page number, position) of what is left out."""
    found = find_superseded(layout_of(dataset(**changes), operation(SHAPE)), Pages(lists))
    return sorted((number, position) for number, positions in found.items() for position in positions)


def thing(key, updated_at=None, **rest):
    return {"thingId": key, **({"updatedAt": updated_at} if updated_at is not None else {}), **rest}


INSTANTS = {
    "2026-11-20T02:00:00Z": 1,
    "2026-11-20T03:00:00+01:00": 1,
    "2026-11-20T02:00:00.000001Z": 2,
    1795140000.5: 3,
    "9999-12-31T23:59:59Z": 4,
    "0001-01-01T00:00:00Z": 0,
    None: -1,
}
"""What `updatedAt` may say -> its place in time; no instant is older than any."""


@st.composite
def things(draw):
    record = {"thingId": draw(st.sampled_from("abc")), "count": draw(st.integers(0, 2))}
    at = draw(st.sampled_from([*INSTANTS, "soon"]))
    return record if at is None and draw(st.booleans()) else {**record, "updatedAt": at}


@settings(deadline=None, max_examples=80)
@given(lists=st.lists(st.lists(things(), max_size=5), max_size=4), same_hash=st.booleans())
def test_fault_18_19_all_but_the_newest_then_latest_of_each_key_are_superseded(lists, same_hash):
    """Also where the hashes of all keys are equal: then nothing but the keys themselves tells them apart."""
    seen = {}
    for number, found in enumerate(lists, start=1):
        for position, record in enumerate(found):
            if record.get("updatedAt") == "soon":
                continue  # it will be rejected
            place = (INSTANTS[record.get("updatedAt")], number, position)
            seen.setdefault(record["thingId"], []).append(place)
    expected = sorted(place[1:] for places in seen.values() for place in sorted(places)[:-1])
    with pytest.MonkeyPatch.context() as patch:
        if same_hash:
            patch.setattr(duplicates, "hash", lambda _key: 7, raising=False)
        assert superseded(*lists) == expected


@given(st.permutations(range(6)))
def test_fault_18_order_of_the_listing_does_not_matter_where_the_instants_differ(order):
    found = [thing("a", f"2026-11-2{n}T00:00:00Z") for n in order]
    assert superseded(found[:2], found[2:3], found[3:]) == [
        place
        for place, n in zip([(1, 0), (1, 1), (2, 0), (3, 0), (3, 1), (3, 2)], order, strict=True)
        if n != max(order)
    ]


def test_fault_18_thing_on_two_pages_is_kept_where_it_is_newest():
    newer = "2026-11-20T02:00:00.000001Z"
    assert superseded([thing("a", newer), thing("b")], [thing("a", NIGHT)]) == [(2, 0)]
    assert superseded([thing("a", NIGHT), thing("b")], [thing("a", newer)]) == [(1, 0)]


def test_fault_19_of_two_versions_with_equal_instants_the_later_is_kept():
    assert superseded([thing("a", NIGHT, count=1), thing("a", NIGHT, count=2)]) == [(1, 0)]
    assert superseded([thing("a", NIGHT, count=1)], [], [thing("a", NIGHT, count=1)]) == [(1, 0)]
    assert superseded([thing("a", NIGHT)], [thing("a", "2026-11-20T03:00:00+01:00")]) == [(1, 0)]


@pytest.mark.parametrize("none", [{}, {"updatedAt": None}])
def test_what_says_no_instant_is_older_than_whatever_says_one(none):
    first = "0001-01-01T00:00:00Z"
    assert superseded([thing("a", first)], [{**thing("a"), **none}]) == [(2, 0)]
    assert superseded([{**thing("a"), **none}], [thing("a", first)]) == [(1, 0)]


def test_of_three_two_are_superseded():
    assert superseded([thing("a", NIGHT)], [thing("a")], [thing("a", NIGHT), thing("b")]) == [(1, 0), (2, 0)]


def test_key_of_several_columns_is_compared_as_a_whole():
    found = [{"thingId": key, "number": n} for key, n in [("a", 1), ("a", 2), ("b", 1), ("a", 1)]]
    assert superseded(found, key=("thing_id", "number")) == [(1, 0)]


def test_keys_are_texts_as_they_are():
    keys = ["Name", "name", "", " ", "\0", "é", "e\u0301", "1", "None", "\U0001f3ac"]
    assert superseded([thing(key) for key in keys]) == []
    assert superseded([thing(key) for key in keys], [thing(key) for key in keys]) == [(1, i) for i in range(len(keys))]


def test_different_keys_of_equal_hash_are_different():
    """Python's own: hash(-1) is hash(-2)."""
    assert hash((-1,)) == hash((-2,))
    found = [{"thingId": "x", "number": n} for n in (-1, -2, -1)]
    assert superseded(found, key=("number",)) == [(1, 0)]


def test_dataset_without_an_order_keeps_the_later_one():
    assert superseded([thing("a", NIGHT)], [thing("a")], order_by=None) == [(1, 0)]


def test_misfit_neither_supersedes_nor_is_superseded():
    """It goes to the rejects, and is counted there."""
    strange = {"thingId": "a", "updatedAt": []}
    assert superseded([thing("a", NIGHT), strange, None, {"updatedAt": NIGHT}], [{"thingId": 3}]) == []
    assert superseded([strange, thing("a", NIGHT)], [thing("a", "2026-11-21")]) == [(1, 1)]


def test_only_records_of_the_walk_count():
    lists = [page([thing("a"), thing("b")], 1, first=1), page([thing("b"), thing("a")], 2, stop=1)]
    found = find_superseded(layout_of(dataset(), operation(SHAPE)), lambda: iter(lists))
    assert found == {1: frozenset({1})}


@pytest.mark.parametrize(("lists", "calls"), [([["a", "b"], ["c"]], 1), ([["a"], ["b", "a"]], 2), ([], 1), ([[]], 1)])
def test_pages_are_read_again_only_if_keys_may_be_equal(lists, calls):
    pages = Pages([[thing(key) for key in keys] for keys in lists])
    find_superseded(layout_of(dataset(), operation(SHAPE)), pages)
    assert pages.calls == calls


def test_members_that_the_model_does_not_know_do_not_matter():
    assert superseded([thing("a", colour=1), thing("a", NIGHT), thing("a", shape={"round": True})]) == [(1, 0), (1, 2)]


@pytest.mark.parametrize("bad", [{"count": "no number"}, {"count": 2**40}, {"updatedAt": "soon"}, {"updatedAt": []}])
def test_fault_18_19_what_will_be_rejected_supersedes_nothing_however_late_it_came(bad):
    """Else a thing that was seen whole would be in no table: neither as a row, nor as what it was."""
    assert superseded([thing("a", NIGHT), thing("b")], [{**thing("a", "2026-11-21T00:00:00Z"), **bad}]) == []
    assert superseded([{**thing("a"), **bad}, thing("a", NIGHT)], [thing("a", NIGHT)]) == [(1, 1)]


def test_key_and_order_may_lie_below_the_top():
    shape = structure(
        "thing",
        structure("where", member("id", "string"), member("note", "string")),
        structure("when", structure("last", member("seen_at", "timestamp"))),
    )
    changes = {"key": ("where_id",), "order_by": "when_last_seen_at", "for_each": None}
    pages = Pages(
        [
            [
                {"where": {"id": "a"}, "when": {"last": {"seenAt": "2026-11-20T02:00:02Z"}}},
                {"where": {"id": "a"}, "when": {"last": {"seenAt": "2026-11-20T02:00:01Z"}}},
                {"where": {"id": "a"}},
                {"where": {"note": "no key"}},
                {"when": None},
                {"where": {"id": "b"}},
            ]
        ]
    )
    assert find_superseded(layout_of(dataset(**changes), operation(shape)), pages) == {1: frozenset({1, 2})}
    (first,) = pages.pages
    misfits = [record.position for record in Reader(dataset(**changes), operation(shape)).read(first)
               if isinstance(record, Misfit)]  # fmt: skip
    assert misfits == [3, 4]
