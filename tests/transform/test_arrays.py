"""Arrays out of values: for every shape, what goes in comes out again, exactly, whatever stands beside it."""

import base64
import datetime as dt
import itertools
import json

import msgspec
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.shapes import EVERYTHING, list_of, map_of, member, structure

from etl.errors import RecordError
from etl.model import leaves
from etl.transform.arrays import array, getter, instant_us, lengths, map_entries, offsets
from etl.transform.records import struct_type
from etl.transform.schema import TIMESTAMP, arrow_type

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
INSTANTS = st.datetimes(timezones=st.just(dt.UTC))
SCALARS = {
    "string": TEXT,
    "integer": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": FLOATS,
    "double": FLOATS,
    "boolean": st.booleans(),
    "timestamp": INSTANTS.map(dt.datetime.isoformat),
    "blob": st.binary(max_size=6).map(lambda content: base64.b64encode(content).decode()),
    "document": JSON.filter(lambda value: value is not None),
}
"""Kind -> JSON values that its type can hold."""


def values_of(shape):
    """Return JSON values that fit a member, null among them wherever it may stand."""
    if shape.kind == "structure":
        return st.fixed_dictionaries(
            {}, optional={child.api_name: st.none() | values_of(child) for child in shape.members}
        )
    if shape.kind == "list":
        return st.lists(st.none() | values_of(shape.element), max_size=3)
    if shape.kind == "map":
        return st.dictionaries(TEXT, st.none() | values_of(shape.element), max_size=3)
    return SCALARS[shape.kind]


def structure_of(children):
    """Return a structure of three members at most, called a, b, c."""
    named = zip("abc", children, strict=False)
    return structure("part", *(child.model_copy(update={"name": name, "api_name": name}) for name, child in named))


SHAPES = st.recursive(
    st.sampled_from(sorted(SCALARS)).map(lambda kind: member("leaf", kind)),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(structure_of),
        inner.map(lambda element: list_of("items", element)),
        inner.map(lambda element: map_of("entries", element)),
    ),
    max_leaves=4,
)


def typed(shape, values):
    """Return JSON values as the reader hands them over."""
    holder = structure("holder", shape)
    kind = struct_type(holder)
    return [msgspec.convert({shape.api_name: value}, kind).m0 for value in values]


def unflattened(shape, value):
    """Return an Arrow value as the JSON that it came from; absent members are left out."""
    if value is None:
        return None
    if shape.kind == "structure":
        found = {child.api_name: unflattened(child, value[child.name]) for child in shape.members}
        return {name: inner for name, inner in found.items() if inner is not None}
    if shape.kind == "list":
        return [unflattened(shape.element, inner) for inner in value]
    if shape.kind == "map":
        assert len({key for key, _ in value}) == len(value)
        return {key: unflattened(shape.element, inner) for key, inner in value}
    if shape.kind == "timestamp":
        return value.isoformat()
    if shape.kind == "blob":
        return base64.b64encode(value).decode()
    return json.loads(value) if shape.kind == "document" else value


def without_nulls(shape, value):
    """Return a JSON value without the members that are null: an absent member and a null one are the same."""
    if value is None:
        return None
    if shape.kind == "structure":
        shapes = {child.api_name: child for child in shape.members}
        return {name: without_nulls(shapes[name], inner) for name, inner in value.items() if inner is not None}
    if shape.kind == "list":
        return [without_nulls(shape.element, inner) for inner in value]
    if shape.kind == "map":
        return {key: without_nulls(shape.element, inner) for key, inner in value.items()}
    return value


# Flatten, then unflatten


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_fault_26_27_28_flatten_then_unflatten_gives_the_value_for_every_shape(data):
    shape = data.draw(SHAPES)
    values = data.draw(st.lists(st.none() | values_of(shape), max_size=4))
    found = array(shape, typed(shape, values))
    assert found.type == arrow_type(shape)
    found.validate(full=True)
    assert [unflattened(shape, value) for value in found.to_pylist()] == [without_nulls(shape, v) for v in values]


@settings(deadline=None, max_examples=40)
@given(st.lists(values_of(EVERYTHING), max_size=3))
def test_fault_26_27_28_flatten_then_unflatten_gives_the_record(records):
    """The columns of a table together: each leaf by its path."""
    structs = [msgspec.convert(record, struct_type(EVERYTHING)) for record in records]
    found = [{} for _ in records]
    for _, path, leaf in leaves(EVERYTHING):
        column = array(leaf, getter(EVERYTHING, path.split("."))(structs))
        for record, value in zip(found, column.to_pylist(), strict=True):
            put(record, path.split("."), unflattened(leaf, value))
    # A structure without any member that is set is the same as none.
    assert found == [without_empty(without_nulls(EVERYTHING, record)) for record in records]


def put(record, path, value):
    if value is None:
        return
    for name in path[:-1]:
        record = record.setdefault(name, {})
    record[path[-1]] = value


def without_empty(record):
    volume = record.get("volume")
    if volume is not None and volume.get("disk") == {}:
        del volume["disk"]
    if volume == {}:
        del record["volume"]
    return record


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_value_does_not_depend_on_what_stands_beside_it(data):
    shape = data.draw(SHAPES)
    values = typed(shape, data.draw(st.lists(st.none() | values_of(shape), min_size=1, max_size=4)))
    alone = [array(shape, [value]).to_pylist()[0] for value in values]
    assert array(shape, values).to_pylist() == alone


@pytest.mark.parametrize("shape", [*(leaf for _, _, leaf in leaves(EVERYTHING)), EVERYTHING], ids=lambda m: m.name)
def test_fault_27_column_that_is_null_on_every_row_has_the_type_of_the_model(shape):
    for count in (0, 3):
        found = array(shape, [None] * count)
        assert (found.type, len(found), found.null_count) == (arrow_type(shape), count, count)


def test_empty_and_absent_are_told_apart():
    """An untagged session is not one whose tags were not sent."""
    assert array(map_of("tags", member("value", "string")), [{}, None]).to_pylist() == [[], None]
    assert array(list_of("groups", member("element", "string")), [[], None]).to_pylist() == [[], None]
    shape = structure("volume", member("size", "integer"))
    empty = msgspec.convert({}, struct_type(shape))
    assert array(shape, [empty, None]).to_pylist() == [{"size": None}, None]


# Maps


def test_fault_28_hostile_keys_and_values_of_a_map_are_neither_lost_nor_merged():
    tags = {
        "Name": "a", "name": "b", "NAME": "", "": "empty key", " ": " ", "\0": "\0", "a\0b": "NUL", "\U0001f3ac": "🎬",
        "é": "composed", "e\u0301": "decomposed", "'; drop table x; --": '"', "\n": "\r\n", "\ufeff": "\uffff",
    }  # fmt: skip
    found = array(map_of("tags", member("value", "string")), [tags, {}, tags])
    assert found.to_pylist() == [list(tags.items()), [], list(tags.items())]


def test_fault_28_ten_thousand_tags_are_kept():
    tags = {f"key {n}": str(n) for n in range(10_000)}
    (found,) = array(map_of("tags", member("value", "string")), [tags]).to_pylist()
    assert found == list(tags.items())


def test_fault_28_lone_surrogate_is_refused_and_not_replaced():
    with pytest.raises(ValueError, match="surrogate"):
        array(map_of("tags", member("value", "string")), [{"a": "\ud800"}])


MAPS = st.lists(st.none() | st.dictionaries(TEXT, st.none() | st.integers(), max_size=3), max_size=5)


@given(MAPS)
def test_fault_28_offsets_cut_the_entries_into_the_maps_that_they_came_from(values):
    keys, entries = map_entries(values)
    cuts = offsets(values).to_pylist()
    assert len(cuts) == len(values) + 1
    pairs = list(zip(keys, entries, strict=True))
    maps = [list((value or {}).items()) for value in values]
    assert [pairs[first:stop] for first, stop in itertools.pairwise(cuts)] == maps
    assert lengths(values) == [len(value or ()) for value in values]


# Instants


@given(
    INSTANTS,
    st.timedeltas(dt.timedelta(hours=-23, minutes=-59), dt.timedelta(hours=23, minutes=59)),
    st.sampled_from(["T", " "]),
    st.sampled_from(["seconds", "milliseconds", "microseconds"]),
)
def test_fault_26_iso_text_of_any_offset_and_precision_is_that_instant(instant, offset, separator, precision):
    offset = dt.timedelta(minutes=offset // dt.timedelta(minutes=1))
    try:
        local = instant.astimezone(dt.timezone(offset))
    except OverflowError:
        local = instant
    text = local.isoformat(separator, precision)
    cut = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}[precision]
    expected = (instant - EPOCH) // dt.timedelta(microseconds=1) // cut * cut
    assert instant_us(text) == expected
    utc = instant.isoformat(separator, precision)
    assert instant_us(utc.replace("+00:00", "Z")) == instant_us(utc.removesuffix("+00:00")) == expected


@given(st.integers(-(2**51), 2**51))
def test_fault_26_epoch_seconds_of_a_hundred_years_are_exact_to_the_microsecond(microseconds):
    """As JSON has them: a number with up to six decimals."""
    sign, rest = "-" if microseconds < 0 else "", abs(microseconds)
    number = msgspec.json.decode(f"{sign}{rest // 1_000_000}.{rest % 1_000_000:06}", type=str | float)
    assert instant_us(number) == microseconds


@given(st.integers(-62_135_596_800, 253_402_300_799))
def test_fault_26_whole_epoch_seconds_are_exact_in_every_year(seconds):
    assert instant_us(msgspec.json.decode(str(seconds), type=str | float)) == seconds * 1_000_000


DATES = ("2026-11-20", "20261120", "2026-W47-5", "0001-01-01", "9999-12-31", "0000-01-01", "2026-02-30", "10000-01-01")
TIMES = (
    "", "T02", "T02:03", " 02:03:04", "T020304", "T24:00", "T23:59:60", "T02:03:04.5", "T02:03:04,25", "t02:03:04",
    "T02:03:04.123456", "T02:03:04.1234567", "T02:03:04.1234560", "T02:03:04.000000001", "T2:03", "T02:03:04.",
)  # fmt: skip
ZONES = (
    "", "Z", "z", "+00:00", "-00:00", "+05:30", "-0800", "+05", "+23:59", "-23:59", "+24:00", "+05:30:15", " Z", "UTC",
)  # fmt: skip
WRITTEN = st.tuples(st.sampled_from(DATES), st.sampled_from(TIMES), st.sampled_from(ZONES)).map("".join)


@settings(max_examples=300)
@given(WRITTEN, st.sampled_from([None, "2026-11-20T02:00:00Z", "2026-11-20", 1763604000.5]))
@example("0001-01-01T00:00:00+23:59", None)
@example("9999-12-31T23:59:59-23:59", None)
@example("0000-12-31T23:59:59Z", None)
def test_fault_26_text_means_the_same_alone_and_in_any_company(text, beside):
    """Arrow reads the common forms, Python the others: which of them did must not be seen."""
    shape = member("at", "timestamp")
    try:
        expected = instant_us(text)
    except RecordError:
        with pytest.raises(RecordError):
            array(shape, [text, beside])
    else:
        found = array(shape, [text, beside])
        assert found.type == TIMESTAMP
        assert found.cast(pa.int64()).to_pylist() == [expected, None if beside is None else instant_us(beside)]


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ("0001-01-01T00:00:00Z", dt.datetime(1, 1, 1, tzinfo=dt.UTC)),
        ("9999-12-31T23:59:59.999999Z", dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC)),
        (-62135596800, dt.datetime(1, 1, 1, tzinfo=dt.UTC)),
        (253402300799, dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)),
        ("1969-12-31T23:59:59.999999Z", dt.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC)),
        (0, EPOCH),
        (-0.000001, dt.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC)),
        ("2026-11-20T02:00:00+05:30", dt.datetime(2026, 11, 19, 20, 30, tzinfo=dt.UTC)),
        ("2026-11-20T02:00:00.1234560000Z", dt.datetime(2026, 11, 20, 2, 0, 0, 123456, tzinfo=dt.UTC)),
        ("2026-11-20t02:00:00z", dt.datetime(2026, 11, 20, 2, tzinfo=dt.UTC)),
        ("Fri, 20 Nov 2026 02:00:00 GMT", dt.datetime(2026, 11, 20, 2, tzinfo=dt.UTC)),
        ("Fri, 20 Nov 2026 02:00:00 +0200", dt.datetime(2026, 11, 20, tzinfo=dt.UTC)),
        ("1795140000", dt.datetime(2026, 11, 20, 2, tzinfo=dt.UTC)),
        ("1795140000.123456", dt.datetime(2026, 11, 20, 2, 0, 0, 123456, tzinfo=dt.UTC)),
    ],
)
def test_fault_26_first_and_last_instants_are_kept(wire, expected):
    assert array(member("at", "timestamp"), [wire]).to_pylist() == [expected]


@pytest.mark.parametrize(
    "wire",
    [
        "soon", "", "2026-13-01T00:00:00Z", "2026-02-30", "0000-12-31T23:59:59Z", "10000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "2026-11-20T02:00:00.1234567Z", "1763604000000",
        "1763604000.1234567", "Fri, 99 Nov 2026 02:00:00 GMT", -62135596801.0, 253402300800.0, 1e300,
    ],
)  # fmt: skip
def test_fault_25_26_what_is_no_instant_is_refused_with_what_was_found_and_expected(wire):
    with pytest.raises(RecordError) as caught:
        array(member("at", "timestamp"), ["2026-11-20T02:00:00Z", wire])
    assert str(caught.value) == (
        f"is {wire!r}; expected ISO-8601 or epoch seconds, in the years 1 to 9999, no finer than microseconds"
    )


@pytest.mark.parametrize(
    ("kind", "value"), [("integer", 2**31), ("integer", -(2**31) - 1), ("long", 2**63), ("timestamp", float("inf"))]
)
def test_fault_25_number_that_its_type_cannot_hold_is_refused_and_not_wrapped(kind, value):
    with pytest.raises((ValueError, OverflowError)):
        array(member("n", kind), [1, value])


# Paths


def test_getter_follows_a_path_and_an_absent_structure_on_it_is_null():
    structs = [
        msgspec.convert(record, struct_type(EVERYTHING))
        for record in ({"volume": {"disk": {"kind": "ssd"}}}, {"volume": {"size": 1}}, {"volume": None}, {})
    ]
    assert getter(EVERYTHING, ("volume", "disk", "kind"))([*structs, None]) == ["ssd", None, None, None, None]
    assert getter(EVERYTHING, ("volume", "size"))(structs) == [None, 1, None, None]
    assert getter(EVERYTHING, ())([1, None]) == [1, None]
