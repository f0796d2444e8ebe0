"""The tables of a dataset: every member has its column, by its type and name, and no value has a say in it."""

import json
from typing import get_args

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shapes import EVERYTHING, dataset, list_of, map_of, member, operation, structure

from etl.errors import ConfigError
from etl.model import ForEach, ShapeKind, leaves
from etl.transform.schema import EXTRA, TIMESTAMP, arrow_type, field, layout_of

TEXT, INT = pa.string(), pa.int32()
HEAD = {"snapshot_date": pa.date32(), "account_id": TEXT, "region": TEXT, "studio_id": TEXT}
TAIL = {"run_id": TEXT, "slice_id": TEXT, "page_number": INT, "extracted_at": TIMESTAMP}
NOTES = pa.map_(TEXT, TEXT)


def types(schema):
    return dict(zip(schema.names, schema.types, strict=True))


def facts(column):
    return {name.decode(): value.decode() for name, value in column.metadata.items() if name != b"description"}


def laid_out(*members, **changes):
    return layout_of(dataset(**changes), operation(structure("thing", member("thing_id", "string"), *members)))


# Columns


def test_every_kind_has_its_column_and_every_nesting_its_table():
    found = layout_of(dataset(), operation(EVERYTHING)).schemas
    assert list(found) == ["thing_tags", "thing_limits", "thing_disks", "things"]
    io = pa.struct({"rate": pa.float64()})
    assert types(found["things"]) == {
        **HEAD,
        "thing_id": TEXT, "state": TEXT, "count": INT, "total": pa.int64(), "ratio": pa.float64(),
        "weight": pa.float64(), "is_on": pa.bool_(), "updated_at": TIMESTAMP, "content": pa.binary(),
        "anything": TEXT, "volume_size": INT, "volume_disk_kind": TEXT, "tags": NOTES,
        "limits": pa.map_(TEXT, pa.struct({"most": INT, "names": pa.list_(TEXT)})),
        "groups": pa.list_(TEXT), "moments": pa.list_(TIMESTAMP),
        "disks": pa.list_(pa.struct({"name": TEXT, "io": io, "notes": NOTES})),
        "grid": pa.list_(pa.list_(INT)), "extra": TEXT,
        **TAIL,
    }  # fmt: skip
    assert types(found["thing_tags"]) == {**HEAD, "thing_id": TEXT, "key": TEXT, "value": TEXT, **TAIL}
    assert types(found["thing_limits"]) == {
        **HEAD, "thing_id": TEXT, "key": TEXT, "most": INT, "names": pa.list_(TEXT), **TAIL,
    }  # fmt: skip
    assert types(found["thing_disks"]) == {
        **HEAD, "thing_id": TEXT, "position": INT, "name": TEXT, "io_rate": pa.float64(), "notes": NOTES, **TAIL,
    }  # fmt: skip


def test_columns_are_in_the_order_of_the_model():
    """So that a reader finds them as the API's documentation has them."""
    schema = layout_of(dataset(), operation(EVERYTHING)).schema
    own = [name for name in schema.names if name not in {*HEAD, *TAIL, "extra"}]
    assert own == [name for name, _, _ in leaves(EVERYTHING)]
    assert schema.names == [*HEAD, *own, "extra", *TAIL]


@pytest.mark.parametrize("kind", get_args(ShapeKind))
def test_every_kind_of_the_model_has_a_type(kind):
    inside = {"members": (member("a", "string"),)} if kind == "structure" else {}
    inside |= {"element": member("a", "string")} if kind in {"list", "map"} else {}
    assert isinstance(arrow_type(member("x", kind, **inside)), pa.DataType)


MEMBERS = st.recursive(
    st.builds(member, st.sampled_from(["a", "b", "c_d", "run_id"]), st.sampled_from(["string", "long", "timestamp"])),
    lambda inner: st.one_of(
        st.builds(
            lambda name, members: structure(name, *members),
            st.sampled_from(["s", "t_u"]),
            st.lists(inner, min_size=1, max_size=3, unique_by=lambda child: child.name),
        ),
        st.builds(list_of, st.sampled_from(["l", "m"]), inner),
        st.builds(map_of, st.sampled_from(["n", "o"]), inner),
    ),
    max_leaves=5,
)


@settings(deadline=None, max_examples=60)
@given(st.lists(MEMBERS, max_size=4, unique_by=lambda child: child.name))
def test_fault_27_every_leaf_has_one_column_of_the_type_that_the_model_says(members):
    found = laid_out(*members)
    record = found.operation.record
    expected = [(tuple(path.split(".")), arrow_type(leaf)) for _, path, leaf in leaves(record)]
    assert [(column.path, column.field.type) for column in found.columns] == expected
    for schema in found.schemas.values():
        assert len({name.lower() for name in schema.names}) == len(schema)
    nested = [leaf for _, _, leaf in leaves(record) if leaf.kind == "map"]
    nested += [leaf for _, _, leaf in leaves(record) if leaf.kind == "list" and leaf.element.kind == "structure"]
    assert len(found.children) == len(nested)
    assert list(found.schemas)[-1] == "things"


# Names


def test_member_that_is_called_like_a_column_of_every_table_is_told_apart():
    members = [member(name, "long") for name in ("run_id", "extra", "region", "studio_id")]
    names = laid_out(*members).schema.names
    assert [name for name in names if name.startswith("api_")] == [
        "api_run_id", "api_extra", "api_region", "api_studio_id",
    ]  # fmt: skip
    assert [names.count(name) for name in ("run_id", "extra", "region", "studio_id")] == [1, 1, 1, 1]


def test_entry_member_that_is_called_like_the_key_is_told_apart():
    entry = structure("element", member("position", "integer"), member("thing_id", "string"), member("name", "string"))
    schema = laid_out(list_of("disks", entry)).schemas["thing_disks"]
    own = [name for name in schema.names if name not in {*HEAD, *TAIL}]
    assert own == ["thing_id", "position", "api_position", "api_thing_id", "name"]


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ((member("Size", "integer"), member("size", "integer")), "dataset things: table things would have size twice"),
        ((member("run_id", "string"), member("api_run_id", "string")), "table things would have api_run_id twice"),
        (
            (list_of("disks", structure("e", member("A", "string"), member("a", "string"))),),
            "table thing_disks would have a twice",
        ),
    ],
)
def test_two_members_that_would_be_one_column_are_a_configuration_error(members, says):
    """DuckDB, Spark and others do not tell upper from lower case in names of columns."""
    with pytest.raises(ConfigError, match=says):
        laid_out(*members)


@pytest.mark.parametrize("turn", [1, -1])
def test_members_on_two_paths_that_have_one_name_are_told_apart_whatever_their_order(turn):
    """Workdocs and b2bi have such records; a column must not change its meaning when a model is sorted anew."""
    a, b, c = member("a_b_c", "string"), structure("a", member("b_c", "string")), structure("a_b", member("c", "long"))
    found = layout_of(dataset(), operation(structure("thing", member("thing_id", "string"), *[a, b, c][::turn])))
    assert {column.field.name: ".".join(column.path) for column in found.columns} == {
        "thing_id": "thingId", "a_b_c": "aBC", "a__b_c": "a.bC", "a_b__c": "aB.c",
    }  # fmt: skip
    entries = laid_out(list_of("disks", structure("e", member("a_b", "string"), structure("a", member("b", "string")))))
    assert entries.schemas["thing_disks"].names[-6:-4] == ["a_b", "a__b"]


def test_key_may_lie_below_the_top():
    found = laid_out(structure("where", structure("exactly", member("id", "string"))), key=("where_exactly_id",))
    assert [column.path for column in found.key_columns] == [("where", "exactly", "id")]


@pytest.mark.parametrize(("kind", "name"), [("map", "key"), ("map", "value"), ("list", "position")])
def test_key_of_records_that_is_called_like_that_of_entries_is_told_apart(kind, name):
    """As the key of an object in S3."""
    entries = map_of("notes", member("value", "string"))
    if kind == "list":
        entries = list_of("notes", structure("e", member("size", "integer")))
    names = laid_out(member(name, "string"), entries, key=(name,)).schemas["thing_notes"].names
    assert {name, f"entry_{name}"} <= set(names)


def test_child_tables_are_named_after_one_item():
    tags = map_of("tags", member("value", "string"))
    assert list(laid_out(tags).schemas) == ["thing_tags", "things"]
    assert list(laid_out(tags, item="gizmo").schemas) == ["gizmo_tags", "things"]


def test_key_of_several_columns_identifies_entries_too():
    tags = map_of("tags", member("value", "string"))
    found = laid_out(member("number", "long"), tags, key=("number", "thing_id"))
    assert [column.field.name for column in found.key_columns] == ["number", "thing_id"]
    assert found.schemas["thing_tags"].names == [*HEAD, "number", "thing_id", "key", "value", *TAIL]


def test_dataset_without_a_parent_has_no_columns_for_it():
    """`studios` itself: its own studio_id is then a member like any other."""
    found = laid_out(member("studio_id", "string"), for_each=None)
    assert found.parents == ()
    assert found.schema.names == [
        "snapshot_date", "account_id", "region", "thing_id", "studio_id", "extra", *TAIL,
    ]  # fmt: skip


def test_every_parameter_of_the_slices_is_a_column():
    found = laid_out(for_each=ForEach(dataset="studios", bind={"studioId": "studio_id", "launchProfileId": "id"}))
    columns = [(column.name, parameter) for column, parameter in found.parents]
    assert columns == [("studio_id", "studioId"), ("launch_profile_id", "launchProfileId")]
    assert found.schema.names[3:5] == ["studio_id", "launch_profile_id"]


# What a column says about itself


def test_columns_carry_path_enum_unit_and_sensitivity():
    schema = laid_out(
        member("state", "string", enum=("ON", "OFF"), documentation="Whether it is on."),
        structure("volume", member("size", "integer")),
        member("owner", "string", sensitive=True),
        list_of("groups", member("element", "string", enum=("a", "b"))),
        units={"volume_size": "GiB"},
    ).schema
    assert facts(schema.field("state")) == {"api_path": "things[].state", "enum": json.dumps(["ON", "OFF"])}
    assert schema.field("state").metadata[b"description"] == b"Whether it is on."
    assert facts(schema.field("volume_size")) == {"api_path": "things[].volume.size", "unit": "GiB"}
    assert facts(schema.field("owner")) == {"api_path": "things[].owner", "sensitive": "true"}
    assert facts(schema.field("groups")) == {"api_path": "things[].groups", "enum": json.dumps(["a", "b"])}


def test_api_paths_lead_to_the_entries_of_lists_and_maps():
    found = layout_of(dataset(), operation(EVERYTHING)).schemas
    paths = {
        (table, column.name): facts(column).get("api_path")
        for table in ("thing_tags", "thing_limits", "thing_disks")
        for column in found[table]
        if column.name not in {*HEAD, *TAIL, "thing_id", "key", "position"}
    }
    assert paths == {
        ("thing_tags", "value"): "things[].tags{}",
        ("thing_limits", "most"): "things[].limits{}.most",
        ("thing_limits", "names"): "things[].limits{}.names",
        ("thing_disks", "name"): "things[].disks[].name",
        ("thing_disks", "io_rate"): "things[].disks[].io.rate",
        ("thing_disks", "notes"): "things[].disks[].notes",
    }


def test_columns_that_are_not_of_the_api_are_described():
    found = layout_of(dataset(), operation(EVERYTHING))
    for schema in found.schemas.values():
        for column in schema:
            if "api_path" not in facts(column):
                assert len(column.metadata[b"description"]) > len("see"), column.name
    assert b"JSON text" in EXTRA.metadata[b"description"]


def test_field_keeps_only_facts_that_say_something():
    column = field("a", TEXT, "text", unit="", enum=[], sensitive="", api_path="x", other=["ü"])
    assert facts(column) == {"api_path": "x", "other": json.dumps(["ü"])}
    assert column.nullable
    assert not field("a", TEXT, "text", nullable=False).nullable


# The change log


def test_change_log_has_the_columns_of_the_table_and_marks_the_key():
    found = layout_of(dataset(), operation(EVERYTHING))
    schema = found.changes
    own = [column.field.name for column in found.columns]
    assert found.changes_table == "thing_changes"
    assert schema.names[: len(HEAD) + len(own) + 1] == [*HEAD, *own, "extra"]
    assert [column.name for column in schema if b"key" in column.metadata] == ["thing_id"]
    assert [schema.field(name).type for name in own] == [found.schema.field(name).type for name in own]
    assert facts(schema.field("change"))["dataset"] == "things"


# Privacy


def test_rule_changes_the_type_and_hides_the_entries():
    """A hash is text whatever it is a hash of; a child table would tell what the column must not."""
    members = (member("count", "long"), map_of("tags", member("value", "string")), member("state", "string"))
    found = laid_out(*members, privacy={"count": "hash", "tags": "drop", "*.owner": "hash"})
    assert list(found.schemas) == ["things"]
    assert found.schema.field("count").type == TEXT
    assert facts(found.schema.field("count"))["privacy"] == "hash"
    assert found.schema.field("tags").type == NOTES
    assert "privacy" not in facts(found.schema.field("state"))


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (
            "owner",
            "privacy: things.owner: column 'owner' does not exist; expected one of thing_id, count, tags, limits, extra",  # noqa: E501  one sentence
        ),
        ("count.x", "privacy: things.count.x: column 'count' is not a map"),
        (
            "limits.x",
            "privacy: things.limits.x: the values of limits are not texts; set a rule for the whole column",
        ),
    ],
)
def test_rule_for_what_there_is_not_is_a_configuration_error(place, says):
    members = (member("count", "long"), map_of("tags", member("v", "string")), map_of("limits", member("v", "long")))
    with pytest.raises(ConfigError) as caught:
        laid_out(*members, privacy={place: "hash"})
    assert str(caught.value) == says


def test_fault_64_members_that_are_called_like_columns_of_the_history_get_another_name():
    names = ["change", "changed_columns", "old_values", "previous_date", "valid_from", "valid_to", "seen_until"]
    names += ["is_current", "next_date", "last_date"]
    record = structure("thing", member("thing_id", "string"), *(member(name, "string") for name in names))
    layout = layout_of(dataset(order_by=None), operation(record))

    assert {column.field.name for column in layout.columns} == {"thing_id", *(f"api_{name}" for name in names)}
    assert len(set(layout.changes.names)) == len(layout.changes.names)
