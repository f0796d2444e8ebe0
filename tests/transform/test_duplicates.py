"""A key seen twice is kept once: the newest, then the later one. Judged against a plain model of that sentence."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shapes import dataset, list_of, map_of, member, operation, page, structure

from etl.transform import duplicates
from etl.transform.duplicates import find_repeated
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
    found = find_repeated(layout_of(dataset(**changes), operation(SHAPE)), Pages(lists))
    assert not found.ambiguous
    return places(found.superseded)


def ambiguous(*lists, shape=SHAPE, request_id="request", **changes):
    """Return (page number, position) of what becomes a reject; nothing is left out."""
    pages = [page(found, number, request_id=request_id) for number, found in enumerate(lists, start=1)]
    found = find_repeated(layout_of(dataset(**changes), operation(shape)), lambda: pages)
    assert not found.superseded
    return places(found.ambiguous)


def places(found):
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
    """Also where the hashes of all keys are equal: then nothing but the keys themselves tells them apart.

    Two of one page that say different things are not two versions of one. Then the key tells nothing.
    """
    seen, differing, last, is_wrong = {}, set(), {}, False
    for number, found in enumerate(lists, start=1):
        for position, record in enumerate(found):
            if record.get("updatedAt") == "soon":
                continue  # it will be rejected
            place = (INSTANTS[record.get("updatedAt")], number, position)
            content = {name: value for name, value in record.items() if value is not None}
            if (before := last.get(record["thingId"])) and before[1] != content:
                differing.add(record["thingId"])
                is_wrong = is_wrong or before[0] == number
            last[record["thingId"]] = (number, content)
            seen.setdefault(record["thingId"], []).append(place)
    strange = differing if is_wrong else set()
    expected = sorted(place[1:] for key, found in seen.items() if key not in strange for place in sorted(found)[:-1])
    with pytest.MonkeyPatch.context() as patch:
        if same_hash:
            patch.setattr(duplicates, "hash", lambda _key: 7, raising=False)
        found = find_repeated(layout_of(dataset(), operation(SHAPE)), Pages(lists))
    assert places(found.superseded) == expected
    assert places(found.ambiguous) == sorted(place[1:] for key in strange for place in seen[key])


@settings(deadline=None)
@given(st.permutations(range(6)))
def test_fault_18_order_of_the_listing_does_not_matter_where_the_instants_differ(order):
    found = [[thing("a", f"2026-11-2{n}T00:00:00Z")] for n in order]
    assert superseded(*found) == [(number, 0) for number, n in enumerate(order, start=1) if n != max(order)]


def test_fault_18_thing_on_two_pages_is_kept_where_it_is_newest():
    newer = "2026-11-20T02:00:00.000001Z"
    assert superseded([thing("a", newer), thing("b")], [thing("a", NIGHT)]) == [(2, 0)]
    assert superseded([thing("a", NIGHT), thing("b")], [thing("a", newer)]) == [(1, 0)]


def test_fault_19_of_two_versions_with_equal_instants_the_later_is_kept():
    assert superseded([thing("a", NIGHT, count=1)], [thing("a", NIGHT, count=2)]) == [(1, 0)]
    assert superseded([thing("a", NIGHT, count=1)], [], [thing("a", NIGHT, count=1)]) == [(1, 0)]
    assert superseded([thing("a", NIGHT, count=1), thing("a", NIGHT, count=1)]) == [(1, 0)]
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
    found = find_repeated(layout_of(dataset(), operation(SHAPE)), lambda: iter(lists))
    assert found.superseded == {1: frozenset({1})}


@pytest.mark.parametrize(("lists", "calls"), [([["a", "b"], ["c"]], 1), ([["a"], ["b", "a"]], 2), ([], 1), ([[]], 1)])
def test_pages_are_read_again_only_if_keys_may_be_equal(lists, calls):
    pages = Pages([[thing(key) for key in keys] for keys in lists])
    find_repeated(layout_of(dataset(), operation(SHAPE)), pages)
    assert pages.calls == calls


def test_members_that_the_model_does_not_know_do_not_matter():
    assert superseded([thing("a", colour=1)], [thing("a", NIGHT)], [thing("a", shape={"round": True})]) == [
        (1, 0),
        (3, 0),
    ]


@pytest.mark.parametrize("bad", [{"count": "no number"}, {"count": 2**40}, {"updatedAt": "soon"}, {"updatedAt": []}])
def test_fault_18_19_what_will_be_rejected_supersedes_nothing_however_late_it_came(bad):
    """Else a thing that was seen whole would be in no table: neither as a row, nor as what it was."""
    assert superseded([thing("a", NIGHT), thing("b")], [{**thing("a", "2026-11-21T00:00:00Z"), **bad}]) == []
    assert superseded([{**thing("a"), **bad}, thing("a", NIGHT)], [thing("a", NIGHT)]) == [(1, 1)]


def test_fault_80_records_of_one_page_with_one_key_that_say_different_things_are_all_rejects():
    """The key is wrong: to keep the later one would lose the other in silence. The same one twice is the same thing."""
    two = [thing("a", count=1), thing("b"), thing("a", count=2)]
    assert ambiguous(two) == [(1, 0), (1, 2)]
    assert ambiguous([thing("a", count=3)], two, [thing("a", count=2)]) == [(1, 0), (2, 0), (2, 2), (3, 0)]
    assert ambiguous([thing("a", NIGHT), thing("a", "2026-11-21T00:00:00Z")]) == [(1, 0), (1, 1)]
    assert ambiguous([thing("a", colour=1), thing("a", colour=2)]) == [(1, 0), (1, 1)]
    assert ambiguous([thing("a", count=1)], [thing("a", count=2), thing("a", count=1)]) == [(1, 0), (2, 0), (2, 1)]


def test_fault_80_once_a_key_is_proven_to_be_wrong_it_tells_nothing_about_records_of_other_pages():
    first = [thing("a", count=1), thing("a", count=2), thing("b", count=1)]
    assert ambiguous(first, [thing("b", count=2), thing("c")]) == [(1, 0), (1, 1), (1, 2), (2, 0)]
    assert superseded(first[1:], [thing("b", count=2), thing("c")]) == [(1, 1)]
    pages = [page(first, 1), page([thing("b", count=1)], 2)]
    assert places(find_repeated(layout_of(dataset(), operation(SHAPE)), lambda: pages).superseded) == [(1, 2)]


def test_fault_80_of_a_dump_whose_pages_the_cli_has_joined_the_instant_decides():
    """There, a session that moved between two pages is twice in one list."""
    moved = [thing("a", NIGHT, count=1), thing("a", "2026-11-21T00:00:00Z", count=2)]
    pages = [page(moved, request_id="")]
    found = find_repeated(layout_of(dataset(), operation(SHAPE)), lambda: pages)
    assert (places(found.superseded), found.ambiguous) == ([(1, 0)], {})
    assert ambiguous([thing("a", count=1), thing("a", count=2)], request_id="") == [(1, 0), (1, 1)]


METRIC = structure(
    "metric", member("id", "string"), list_of("values", member("element", "double")), member("state", "string"),
    member("seen_at", "timestamp"),
)  # fmt: skip


def test_fault_80_results_that_go_on_over_pages_under_one_id_are_not_versions_of_one():
    """GetMetricData does so. A record that moved, and changed meanwhile, repeats what it had."""
    own = {"shape": METRIC, "key": ("id",), "order_by": None, "for_each": None}
    first, rest = {"id": "a", "values": [1, 2], "state": "PartialData"}, {"id": "a", "values": [3], "state": "Complete"}
    assert ambiguous([first], [rest], **own) == [(1, 0), (2, 0)]
    for later in ({**first, "state": "Complete"}, {**rest, "values": [2, 3]}, {**rest, "values": []}):
        pages = [page([first], 1), page([later], 2)]
        layout = layout_of(dataset(key=("id",), order_by=None, for_each=None), operation(METRIC))
        found = find_repeated(layout, lambda pages=pages: pages)
        assert (places(found.superseded), found.ambiguous) == ([(1, 0)], {})
    versions = [page([{**first, "seenAt": NIGHT}], 1), page([{**rest, "seenAt": "2026-11-21T00:00:00Z"}], 2)]
    layout = layout_of(dataset(key=("id",), order_by="seen_at", for_each=None), operation(METRIC))
    assert places(find_repeated(layout, lambda: versions).superseded) == [(1, 0)]


def test_fault_80_the_message_names_dataset_key_and_two_records():
    layout = layout_of(dataset(), operation(SHAPE))
    pages = [page([thing("a", count=1), thing("b"), thing("a", count=2)])]
    said = find_repeated(layout, lambda: pages).describe(layout)
    assert "key thing_id of dataset things does not identify a record: 2 records" in said
    assert "such as record 0 of page 1 and record 2 of page 1" in said
    assert "`key: []`" in said


@pytest.mark.parametrize("key", [("values",), ("where",), ("tags",), ("id", "values", "where", "tags"), ()])
def test_members_of_a_key_may_be_lists_maps_and_structures_and_the_whole_record(key):
    shape = structure(
        "thing", member("id", "string"), list_of("values", member("element", "integer")),
        structure("where", member("host", "string"), member("port", "integer")),
        map_of("tags", member("value", "string")),
    )  # fmt: skip
    one = {"id": "a", "values": [1, 2], "where": {"host": "h", "port": 1}, "tags": {"x": "1", "y": "2"}}
    same = {"tags": {"y": "2", "x": "1"}, "where": {"port": 1, "host": "h"}, "values": [1, 2], "id": "a"}
    other = {"id": "b", "values": [2, 1], "where": {"host": "h", "port": 2}, "tags": {"x": "1", "y": "3"}}
    layout = layout_of(dataset(key=key, order_by=None, for_each=None), operation(shape))
    found = find_repeated(layout, lambda: [page([one, same, other])])
    assert (places(found.superseded), found.ambiguous) == ([(1, 0)], {})


def test_null_is_a_value_of_a_key_of_several_columns_and_no_key_at_all_is_a_reject():
    found = [
        {"thingId": "a"},
        {"thingId": "a", "number": 1},
        {"number": 1},
        {"thingId": None, "number": 1},
        {"count": 3},
    ]
    assert superseded(found, key=("thing_id", "number")) == [(1, 2)]
    reader = Reader(dataset(key=("thing_id", "number")), operation(SHAPE))
    misfits = [record for record in reader.read(page(found)) if isinstance(record, Misfit)]
    assert [(misfit.position, misfit.reason) for misfit in misfits] == [(4, "has none of its key thing_id, number")]


def test_key_and_order_may_lie_below_the_top():
    shape = structure(
        "thing",
        structure("where", member("id", "string"), member("note", "string")),
        structure("when", structure("last", member("seen_at", "timestamp"))),
    )
    changes = {"key": ("where_id",), "order_by": "when_last_seen_at", "for_each": None}
    pages = Pages(
        [
            [{"where": {"id": "a"}, "when": {"last": {"seenAt": "2026-11-20T02:00:02Z"}}}],
            [{"where": {"id": "a"}, "when": {"last": {"seenAt": "2026-11-20T02:00:01Z"}}}],
            [{"where": {"id": "a"}}, {"where": {"note": "no key"}}, {"when": None}, {"where": {"id": "b"}}],
        ]
    )
    found = find_repeated(layout_of(dataset(**changes), operation(shape)), pages)
    assert places(found.superseded) == [(2, 0), (3, 0)]
    first = pages.pages[-1]
    misfits = [record.position for record in Reader(dataset(**changes), operation(shape)).read(first)
               if isinstance(record, Misfit)]  # fmt: skip
    assert misfits == [1, 2]
