"""Typed records out of page bytes: each for itself, whatever its page holds besides; nothing unknown is dropped."""

import json
import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shapes import EVERYTHING, dataset, list_of, map_of, member, operation, page, structure

from etl.transform.records import Misfit, Reader, Record, split_unknown

SHAPE = structure(
    "thing",
    member("thing_id", "string"),
    member("count", "integer"),
    member("updated_at", "timestamp"),
    structure("volume", member("size", "integer")),
    map_of("tags", member("value", "string")),
    list_of("disks", structure("element", member("name", "string"))),
    map_of("limits", structure("value", member("most", "integer"))),
)
KEYS = st.sampled_from("abc")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


def records(key=KEYS, **unusual):
    """Return records that fit, with members that the model does not know and values that do not fit among them."""
    members = {
        "count": st.integers(-(2**31), 2**31 - 1) | st.none(),
        "updatedAt": st.sampled_from(["2026-11-20T02:00:00Z", 1763604000, None, "soon"]),
        "volume": st.none() | st.fixed_dictionaries({}, optional={"size": st.integers(0, 9), "colour": JSON}),
        "tags": st.none() | st.dictionaries(TEXT, TEXT | st.none(), max_size=2),
        "disks": st.lists(st.none() | st.fixed_dictionaries({}, optional={"name": TEXT, "colour": JSON}), max_size=3),
        "limits": st.dictionaries(
            TEXT, st.none() | st.fixed_dictionaries({}, optional={"most": st.integers(), "colour": JSON}), max_size=2
        ),
        "colour": JSON,
        **unusual,
    }
    return st.fixed_dictionaries({"thingId": key}, optional=members)


STRANGE = st.one_of(
    records(count=st.sampled_from(["3", 1.5, True, [], {}]), tags=st.just([]), volume=st.just("big")),
    records(key=st.sampled_from([None, 3, []])),
    records().map(lambda record: {name: value for name, value in record.items() if name != "thingId"}),
    st.sampled_from([None, 3, "text", [], [{}], True]),
    records().map(lambda record: {**record, "tags": {"a": "\ud800"}}),
)


def reader(**changes):
    return Reader(dataset(), operation(SHAPE), **changes)


def read(found, **window):
    return list(reader().read(page(found, **window)))


def told(one):
    """Return what a record or misfit says, its place apart."""
    return (one.reason, one.record) if isinstance(one, Misfit) else (value_of(one), one.extra)


def value_of(record):
    return msgspec.to_builtins(record.value)


# Each for itself


@settings(deadline=None, max_examples=40)
@given(st.lists(records() | STRANGE, max_size=5))
def test_record_is_read_the_same_alone_and_in_any_company(found):
    """A page that fits is decoded at once, any other record by record: which of the two must not be seen."""
    together = read(found)
    assert [one.position for one in together] == list(range(len(found)))
    assert [told(one) for one in together] == [told(read([record])[0]) for record in found]


@settings(deadline=None, max_examples=40)
@given(st.lists(records() | STRANGE, max_size=4))
def test_every_record_is_one_record_or_one_misfit_and_whole(found):
    for one, record in zip(read(found), found, strict=True):
        if isinstance(one, Misfit):
            assert json.loads(one.record) == record
            assert one.reason
        else:
            extra = json.loads(one.extra) if one.extra else {}
            assert joined(SHAPE, value_of(one), extra) == without_nulls(SHAPE, record)


def joined(shape, known, extra):
    """Return a value again from its known and its unknown members."""
    if known is None or shape.kind not in {"structure", "list", "map"}:
        return known
    if shape.kind == "list":
        return [joined(shape.element, inner, extra.get(str(place), {})) for place, inner in enumerate(known)]
    if shape.kind == "map":
        return {key: joined(shape.element, inner, extra.get(key, {})) for key, inner in known.items()}
    shapes = {child.api_name: child for child in shape.members}
    inside = {
        name: joined(shapes[name], inner, extra.get(name, {})) for name, inner in known.items() if inner is not None
    }
    return {**inside, **{name: inner for name, inner in extra.items() if name not in shapes}}


def without_nulls(shape, value):
    """Leave known members out that are null: an absent member and a null one are the same."""
    if value is None or shape.kind not in {"structure", "list", "map"}:
        return value
    if shape.kind == "list":
        return [without_nulls(shape.element, inner) for inner in value]
    if shape.kind == "map":
        return {key: without_nulls(shape.element, inner) for key, inner in value.items()}
    shapes = {child.api_name: child for child in shape.members}
    return {
        name: without_nulls(shapes[name], inner) if name in shapes else inner
        for name, inner in value.items()
        if inner is not None or name not in shapes
    }


@given(st.lists(records() | STRANGE, min_size=1, max_size=5), st.data())
@settings(deadline=None, max_examples=25)
def test_only_records_of_the_walk_are_read_and_keep_their_place(found, data):
    first = data.draw(st.integers(0, len(found)))
    stop = data.draw(st.integers(first, len(found)))
    whole = read(found)
    assert [(one.position, told(one)) for one in read(found, first=first, stop=stop)] == [
        (one.position, told(one)) for one in whole[first:stop]
    ]


@pytest.mark.parametrize("unusual", [{}, {"colour": "red"}, {"count": "3"}])
def test_place_of_a_record_is_that_on_its_page_also_where_the_walk_begins_in_the_middle(unusual):
    found = [{"thingId": "a"}, {"thingId": "b"}, {"thingId": "c", **unusual}, {"thingId": "d"}]
    window = read(found, first=1, stop=3)
    assert [one.position for one in window] == [1, 2]
    assert value_of(window[0])["thingId"] == "b"


# What the model does not know


@settings(max_examples=100)
@given(records())
def test_fault_24_known_and_unknown_members_together_are_the_record(record):
    known, extra = split_unknown(record, SHAPE)
    assert joined(SHAPE, known, extra) == without_nulls(SHAPE, record)
    again, nothing = split_unknown(known, SHAPE)
    assert (again, nothing) == (known, {})


@pytest.mark.parametrize(
    ("record", "extra"),
    [
        ({}, None),
        ({"colour": "red"}, {"colour": "red"}),
        ({"colour": None}, {"colour": None}),
        ({"colour": {"deep": [1, {"a": None}]}}, {"colour": {"deep": [1, {"a": None}]}}),
        ({"Count": 1, "count": 2}, {"Count": 1}),
        ({"volume": {"size": 1, "iops": 5}}, {"volume": {"iops": 5}}),
        ({"volume": {"iops": 5}, "colour": 1}, {"volume": {"iops": 5}, "colour": 1}),
        ({"disks": [{"name": "a"}, {"iops": 5}, None]}, {"disks": {"1": {"iops": 5}}}),
        ({"limits": {"a": {"least": 1}, "b": {"most": 1}}}, {"limits": {"a": {"least": 1}}}),
        ({"tags": {"colour": "red"}}, None),
    ],
)
def test_fault_24_unknown_members_are_set_aside_with_their_place(record, extra):
    (one,) = read([{"thingId": "a", **record}])
    assert isinstance(one, Record)
    assert (json.loads(one.extra) if one.extra else None) == extra


def test_fault_24_unknown_enum_value_is_a_value():
    everything = Reader(dataset(), operation(EVERYTHING))
    (one,) = everything.read(page([{"thingId": "a", "state": "BRAND_NEW", "groups": ["a", "z"]}]))
    named = everything.named(one)
    assert (named["state"], named["groups"], one.extra) == ("BRAND_NEW", ["a", "z"], None)


# What does not fit


@pytest.mark.parametrize(
    ("record", "where"),
    [
        ({"count": "3"}, "$.count"),
        ({"count": 1.5}, "$.count"),
        ({"count": True}, "$.count"),
        ({"count": {"n": 1}}, "$.count"),
        ({"thingId": 3}, "$.thingId"),
        ({"thingId": None}, "$.thingId"),
        ({"updatedAt": {"at": 1}}, "$.updatedAt"),
        ({"updatedAt": True}, "$.updatedAt"),
        ({"volume": "big"}, "$.volume"),
        ({"volume": {"size": "1"}}, "$.volume.size"),
        ({"tags": ["a"]}, "$.tags"),
        ({"tags": {"a": 1}}, "$.tags[...]"),
        ({"disks": {"a": 1}}, "$.disks"),
        ({"disks": ["a"]}, "$.disks[0]"),
        ({"disks": [None, {"name": 1}]}, "$.disks[1].name"),
        ({"limits": {"a": {"most": "1"}}}, "$.limits[...].most"),
    ],
)
def test_fault_25_value_of_another_type_makes_a_misfit_that_names_the_place_and_leaves_the_others(record, where):
    strange = {"thingId": "b", "colour": "red", **record}
    first, misfit, last = read([{"thingId": "a", "count": 1}, strange, {"thingId": "c", "count": 3}])
    assert (value_of(first)["thingId"], value_of(last)["count"]) == ("a", 3)
    assert isinstance(misfit, Misfit)
    assert re.search(rf"`{re.escape(where)}`$", misfit.reason), misfit.reason
    assert json.loads(misfit.record) == strange
    assert misfit.position == 1


@pytest.mark.parametrize("record", [None, 3, "text", [], True, {}, {"count": 1}])
def test_what_is_no_record_or_has_no_key_is_a_misfit(record):
    first, misfit = read([{"thingId": "a"}, record])
    assert isinstance(first, Record)
    assert (misfit.position, json.loads(misfit.record)) == (1, record)


def test_fault_25_misfit_is_kept_to_the_byte():
    text = b'{ "thingId":"a" , "count":"3","x":1.10, "e": 1e2, "u":"\\u00e9\xc3\xa9" }'
    (misfit,) = reader().read(page(b'{"things": [' + text + b'], "nextToken": null}'))
    assert misfit.record == text.decode()


def test_fault_28_lone_surrogate_makes_a_misfit_of_its_record_alone_and_stays_readable():
    strange = {"thingId": "b", "tags": {"a": "\ud800", "é": "\U0001f3ac"}}
    first, misfit, last = read([{"thingId": "a", "tags": {"\0": ""}}, strange, {"thingId": "c"}])
    assert value_of(first)["tags"] == {"\0": ""}
    assert value_of(last)["thingId"] == "c"
    assert misfit.record.isascii()
    assert json.loads(misfit.record) == strange


@settings(max_examples=50)
@given(st.lists(JSON, max_size=4), st.sampled_from([None, 2]))
def test_raw_records_are_those_of_the_page_each_as_it_was_sent(found, indent):
    body = json.dumps({"nextToken": None, "things": found, "other": [1]}, indent=indent).encode()
    raw = reader().raw(page(body))
    assert [json.loads(text) for text in raw] == found
    assert all(text in body for text in raw)


@pytest.mark.parametrize(
    ("text", "value"), [("3.0", 3), ("1e1", 10), ("-2E+3", -2000), ("0.0", 0), ("9007199254740991.0", 2**53 - 1)]
)
def test_integers_that_are_written_with_a_point_or_an_exponent_are_integers(text, value):
    body = b'{"things": [{"thingId": "a", "total": %s, "grid": [[%s]]}], "nextToken": null}'
    every = Reader(dataset(), operation(EVERYTHING))
    (found,) = every.read(page(body % (text.encode(), text.encode())))
    named = every.named(found)
    assert (named["total"], named["grid"], found.extra) == (value, [[value]], None)


@pytest.mark.parametrize("text", ["3.5", '"3"', "9007199254740993.0", "1e300"])
def test_fault_25_numbers_that_are_no_exact_integer_are_misfits(text):
    body = b'{"things": [{"thingId": "a", "total": %s}], "nextToken": null}' % text.encode()
    (found,) = Reader(dataset(), operation(EVERYTHING)).read(page(body))
    assert isinstance(found, Misfit)


# Some columns only


def test_reader_of_some_columns_ignores_all_others_even_where_they_do_not_fit():
    some = reader(columns=("thing_id", "updated_at"))
    found = [
        {"thingId": "a", "count": "no number", "colour": 1, "updatedAt": 5.5},
        {"thingId": "b", "volume": []},
        {"thingId": "c", "updatedAt": []},
        {"updatedAt": 1},
    ]
    one, two, three, four = some.read(page(found))
    assert some.named(one) == {"thing_id": "a", "updated_at": 5.5}
    assert some.named(two) == {"thing_id": "b", "updated_at": None}
    assert (one.extra, two.extra) == (None, None)
    assert isinstance(three, Misfit)
    assert isinstance(four, Misfit)


def test_values_are_named_as_columns_are():
    (one,) = read([{"thingId": "a", "count": 3, "volume": {"size": 5}, "tags": {"k": "v"}}])
    named = reader().named(one)
    assert list(named) == [child.name for child in SHAPE.members]
    assert (named["thing_id"], named["count"], named["tags"], named["disks"]) == ("a", 3, {"k": "v"}, None)
