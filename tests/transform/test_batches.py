"""The laws of flattening: nothing lost, nothing merged, everything counted."""

import datetime as dt
import json
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import shapes

from etl.extract.datasets import builtin_datasets
from etl.extract.service_model import describe_operation, model_session
from etl.transform.batches import Flattener, flatten
from etl.transform.duplicates import find_repeated
from etl.transform.schema import layout_of

DATASET = builtin_datasets()["streaming_sessions"]
OPERATION = describe_operation(model_session(), DATASET)
LAYOUT = layout_of(DATASET, OPERATION)
SNAPSHOT = shapes.snapshot(DATASET, OPERATION)
PART = shapes.part("us-west-2-abc", dataset="streaming_sessions")

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
INSTANTS = st.datetimes(timezones=st.just(dt.UTC))
RECORDS = st.fixed_dictionaries(
    {"sessionId": st.sampled_from("abcdefgh")},
    optional={
        "updatedAt": st.one_of(st.none(), INSTANTS.map(lambda at: at.isoformat())),
        "createdAt": st.one_of(INSTANTS.map(lambda at: at.isoformat().replace("+00:00", "Z")), st.just("soon")),
        "state": st.sampled_from(["READY", "STOPPED", "BRAND_NEW"]),
        "maxBackupsToRetain": st.one_of(st.integers(-(2**31), 2**31 - 1), st.just("3"), st.just(2**40)),
        "statusMessage": st.one_of(st.none(), TEXT),
        "tags": st.one_of(st.none(), st.dictionaries(TEXT, TEXT, max_size=4)),
        "volumeConfiguration": st.one_of(
            st.none(), st.fixed_dictionaries({}, optional={"size": st.integers(0, 99), "colour": TEXT})
        ),
        "somethingNew": st.one_of(st.integers(), TEXT, st.just({"a": [1]})),
    },
)
PAGES = st.lists(st.lists(RECORDS, max_size=6, unique_by=lambda record: record["sessionId"]), min_size=1, max_size=5)
"""A session moves between pages, never within one."""


def pages_of(lists):
    for number, records in enumerate(lists, start=1):
        token = None if number == len(lists) else f"token {number}"
        yield shapes.page(records, number, key="sessions", token=token, received_at=shapes.ARRIVED)


def flat(lists):
    """Return the rows of each table, the rejects, and the number of superseded records."""
    repeated = find_repeated(LAYOUT, lambda: pages_of(lists))
    flats = list(flatten(LAYOUT, SNAPSHOT, PART, pages_of(lists), repeated))
    tables = {
        name: pa.Table.from_batches([one.tables[name] for one in flats], schema=schema).to_pylist()
        for name, schema in LAYOUT.schemas.items()
    }
    rejects = [row for one in flats for row in one.rejects.to_pylist()]
    return tables, rejects, sum(map(len, repeated.superseded.values())), flats


def drift_of(flat):
    return frozenset().union(*flat.drifts.values())


@given(lists=PAGES, others=PAGES)
def test_pages_of_several_slices_share_a_batch(lists, others):
    """Rows, rejects, counts and drift of each slice are what they are alone."""
    other = replace(PART, parents={**PART.parents, "studioId": "another"}, region="eu-west-1")
    flattener = Flattener(LAYOUT, SNAPSHOT)
    pages = [(PART, page) for page in pages_of(lists)] + [(other, page) for page in pages_of(others)]
    mixed = pages[::2] + pages[1::2]

    together = flattener.flatten([(slice_, flattener.reader.read_page(page)) for slice_, page in mixed])

    counted = {}
    for slice_id, table, rows in together.counts():
        counted.setdefault(slice_id, {})[table] = rows
    assert counted.keys() == {PART.slice_id, other.slice_id}
    for slice_ in (PART, other):
        found = [(one, flattener.reader.read_page(page)) for one, page in mixed if one is slice_]
        alone = flattener.flatten(found)
        for table, rows in {**alone.tables, "etl_rejects": alone.rejects}.items():
            shared = {**together.tables, "etl_rejects": together.rejects}[table].to_pylist()
            assert [row for row in shared if row["slice_id"] == slice_.slice_id] == rows.to_pylist()
            assert counted[slice_.slice_id][table] == rows.num_rows
        assert together.drifts.get(slice_.slice_id, frozenset()) == drift_of(alone)


def kept_by_a_plain_model(lists):
    """The record of each key with the newest updatedAt, then the later one, of those that fit."""
    best = {}
    for record in (record for records in lists for record in records if fits(record)):
        # Year 1 is an instant like any other; only its absence is older than everything.
        rank = dt.datetime.fromisoformat(record["updatedAt"]).timestamp() if record.get("updatedAt") else float("-inf")
        if record["sessionId"] not in best or rank >= best[record["sessionId"]][0]:
            best[record["sessionId"]] = (rank, record)
    return {key: record for key, (_, record) in best.items()}


def fits(record):
    return record.get("createdAt") != "soon" and record.get("maxBackupsToRetain") not in ("3", 2**40)


@settings(max_examples=150, deadline=None)
@given(PAGES)
def test_rows_rejects_and_duplicates_are_the_records_and_each_is_whole(lists):
    tables, rejects, duplicates, _ = flat(lists)
    kept = kept_by_a_plain_model(lists)
    rows = {row["session_id"]: row for row in tables["streaming_sessions"]}

    assert len(tables["streaming_sessions"]) + len(rejects) + duplicates == sum(map(len, lists))
    assert rows.keys() == kept.keys()
    unfit = [json.dumps(record) for records in lists for record in records if not fits(record)]
    assert sorted(json.dumps(json.loads(row["record"])) for row in rejects) == sorted(unfit)
    for key, row in rows.items():
        record = kept[key]
        volume = record.get("volumeConfiguration") or {}
        assert row["state"] == record.get("state")
        assert row["status_message"] == record.get("statusMessage")
        assert row["max_backups_to_retain"] == record.get("maxBackupsToRetain")
        assert row["volume_configuration_size"] == volume.get("size")
        assert (None if row["tags"] is None else dict(row["tags"])) == record.get("tags")
        for column, member in (("created_at", "createdAt"), ("updated_at", "updatedAt")):
            found = row[column] and row[column].isoformat()
            assert found == (record.get(member) and dt.datetime.fromisoformat(record[member]).isoformat())
        unknown = {"somethingNew": record["somethingNew"]} if "somethingNew" in record else {}
        if "colour" in volume:
            unknown["volumeConfiguration"] = {"colour": volume["colour"]}
        assert json.loads(row["extra"] or "{}") == unknown
    assert Counter(
        (row["session_id"], row["key"], row["value"]) for row in tables["streaming_session_tags"]
    ) == Counter((key, name, value) for key in rows for name, value in (kept[key].get("tags") or {}).items())


@given(PAGES)
@settings(max_examples=50, deadline=None)
def test_where_the_pages_are_cut_does_not_matter(lists):
    """Resume at any page gives the same rows."""
    single = [[record] for records in lists for record in records]
    strip = lambda rows: [{k: v for k, v in row.items() if k != "page_number"} for row in rows]  # noqa: E731
    cut, each = flat(lists)[0], flat(single)[0]
    assert {name: strip(rows) for name, rows in cut.items()} == {name: strip(rows) for name, rows in each.items()}


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ("2026-11-20T02:00:00Z", "2026-11-20T02:00:00+00:00"),
        ("2026-11-20T02:00:00.123456Z", "2026-11-20T02:00:00.123456+00:00"),
        ("2026-11-20T02:00:00.5+01:30", "2026-11-20T00:30:00.500000+00:00"),
        ("2026-11-20T02:00:00", "2026-11-20T02:00:00+00:00"),
        (1763604000, "2025-11-20T02:00:00+00:00"),
        (1763604000.123, "2025-11-20T02:00:00.123000+00:00"),
        (-1, "1969-12-31T23:59:59+00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999+00:00"),
        (None, None),
    ],
)
def test_fault_26_every_form_of_timestamp_becomes_utc_microseconds(wire, expected):
    tables, rejects, _, _ = flat([[{"sessionId": "a", "createdAt": wire}]])

    (row,) = tables["streaming_sessions"]
    assert rejects == []
    assert (row["created_at"] and row["created_at"].isoformat()) == expected


@pytest.mark.parametrize(
    "wire", ["soon", "", "2026-02-30T00:00:00Z", 1e30, "2026-11-20T02:00:00.1234567Z", "10000-01-01"]
)
def test_fault_25_what_is_no_timestamp_is_rejected_with_place_found_and_expected(wire):
    tables, (reject,), _, _ = flat([[{"sessionId": "a", "createdAt": wire}, {"sessionId": "b"}]])

    assert [row["session_id"] for row in tables["streaming_sessions"]] == ["b"]
    assert reject["record_number"] == 0
    assert reject["reason"].startswith(f"createdAt is {wire!r}; expected ISO-8601")


def test_fault_28_hostile_tags_arrive_and_a_lone_surrogate_is_rejected_whole():
    tags = {"Name": "1", "name": "2", "": "", "emoji 🎬": "\x00", **{f"k{i}": str(i) for i in range(10_000)}}
    lists = [[{"sessionId": "a", "tags": tags}, {"sessionId": "b", "tags": {"x": "\ud800"}}]]
    (one,) = flatten(LAYOUT, SNAPSHOT, PART, pages_of(lists))

    (row,) = one.tables["streaming_sessions"].to_pylist()
    assert dict(row["tags"]) == tags
    assert one.tables["streaming_session_tags"].num_rows == len(tags)
    (reject,) = one.rejects.to_pylist()
    assert json.loads(reject["record"]) == {"sessionId": "b", "tags": {"x": "\ud800"}}


def test_fault_27_a_column_that_is_null_on_every_row_has_the_type_of_the_model():
    one = flat([[{"sessionId": "a"}]])[3][0]
    batch = one.tables["streaming_sessions"]

    assert batch.column("stopped_at").null_count == 1
    assert batch.schema.field("stopped_at").type == pa.timestamp("us", tz="UTC")
    assert batch.schema.field("volume_configuration_size").type == pa.int32()


def test_a_record_without_its_key_is_rejected():
    tables, (reject,), _, _ = flat([[{"state": "READY"}]])

    assert tables["streaming_sessions"] == []
    assert "sessionId" in reject["reason"]


def test_drift_has_one_name_for_an_unknown_map_however_many_entries_it_has():
    """Each entry would be another line of the log and of etl_slices, and there is no end to them."""
    ids = [{"sessionId": str(i), "unknown": {f"id{i}": 1}} for i in range(3)]
    assert drift_of(flat([ids])[3][0]) == {"member unknown"}


def test_drift_of_entries_has_no_places():
    records = [
        {
            "thingId": str(i),
            "volume": {"colour": i},
            "disks": [{"io": {"queue": 1}}, {"io": {"queue": 2}, "maker": "x"}],
            "limits": {f"limit{i}": {"least": 1}},
        }
        for i in range(3)
    ]
    (one,) = flatten(
        layout_of(shapes.dataset(), shapes.operation()), shapes.snapshot(), shapes.part(), [shapes.page(records)]
    )
    paths = {"volume.colour", "disks[].io.queue", "disks[].maker", "limits{}.least"}
    assert drift_of(one) == {f"member {path}" for path in paths}


def test_numbers_that_json_has_not_arrive_as_texts_and_are_numbers():
    """AWS's JSON protocols send NaN and the infinities as texts; any other text is none."""
    names = ["NaN", "Infinity", "-Infinity", 1, 2.5, None, "nan", "3"]
    records = [{"thingId": str(i), "ratio": name, "weight": name} for i, name in enumerate(names)]
    (one,) = flatten(
        layout_of(shapes.dataset(), shapes.operation()), shapes.snapshot(), shapes.part(), [shapes.page(records)]
    )
    for column in ("ratio", "weight"):
        assert list(map(str, one.tables["things"].column(column).to_pylist())) == [
            "nan", "inf", "-inf", "1.0", "2.5", "None",
        ]  # fmt: skip
    assert one.rejects.column("record_number").to_pylist() == [6, 7]


def test_values_that_privacy_hides_are_no_drift():
    """They are hashes by then: none of them is in the enum of the service model, and a list of them is one text."""
    hidden = shapes.dataset(privacy={"state": "hash", "groups": "hash"})
    shown = shapes.dataset()
    drifts = []
    for chosen in (hidden, shown):
        layout = layout_of(chosen, shapes.operation(), b"key")
        pages = [shapes.page([{"thingId": "1", "state": "BRAND_NEW", "groups": ["c"]}])]
        (one,) = flatten(layout, shapes.snapshot(chosen), shapes.part(), pages)
        assert one.rejects.num_rows == 0
        drifts.append(drift_of(one))

    assert drifts == [frozenset(), {"state = BRAND_NEW", "groups = c"}]
