"""Dataset definitions, and what the real service models of botocore say about their operations."""

import pytest
from botocore.model import ServiceModel
from support.shapes import operation

from etl.errors import ConfigError
from etl.extract.datasets import builtin_datasets, select_datasets
from etl.extract.service_model import describe_operation, model_session, parameter_names
from etl.model import Dataset, ForEach, leaves

SESSION = model_session()


def define(service, operation, key, **rest):
    return Dataset(name=rest.pop("name", "items"), service=service, operation=operation, key=key, **rest)


def describe(service, operation, *key, **rest):
    return describe_operation(SESSION, define(service, operation, key, **rest))


def members(found):
    """Return API path -> member of the leaves of a record, and of its structures inside lists and maps."""
    return {path: member for _, path, member in leaves(found)}


class FakeSession:
    """Gives one service model that no service has."""

    def __init__(self, shapes, pagination=None, protocol="rest-json"):
        self.model = ServiceModel(
            {
                "metadata": {"protocol": protocol, "apiVersion": "2026-01-01", "serviceId": "Things"},
                "operations": {
                    "ListThings": {
                        "name": "ListThings",
                        "http": {"method": "GET", "requestUri": "/"},
                        "input": {"shape": "In"},
                        "output": {"shape": "Out"},
                    }
                },
                "shapes": {
                    "S": {"type": "string"},
                    "In": {
                        "type": "structure",
                        "members": {name: {"shape": "S"} for name in ("nextToken", "pageSize", "by")},
                    },
                    "Out": {
                        "type": "structure",
                        "members": {"things": {"shape": "Things"}, "nextToken": {"shape": "S"}},
                    },
                    "Things": {"type": "list", "member": {"shape": "Thing"}},
                    **shapes,
                },
            },
            "things",
        )  # fmt: skip
        self.pagination = pagination or {
            "result_key": "things", "input_token": "nextToken", "output_token": "nextToken", "limit_key": "pageSize",
        }  # fmt: skip

    def get_service_model(self, _service):
        return self.model

    def get_paginator_model(self, _service):
        return self

    def get_paginator(self, _operation):
        return self.pagination


def thing(**shapes):
    """Return the record of a service whose Thing has these members: name -> shape."""
    named = {name: {"shape": f"X{name}"} for name in shapes}
    session = FakeSession(
        {
            "Thing": {"type": "structure", "members": {"id": {"shape": "S"}, **named}},
            **{f"X{name}": shape for name, shape in shapes.items()},
        }
    )
    found = describe_operation(session, define("things", "list_things", ("id",)))
    return {member.name: member for member in found.record.members}


# Built in


def test_built_in_datasets_are_described_by_the_bundled_model():
    for dataset in builtin_datasets().values():
        found = describe_operation(SESSION, dataset)
        assert (found.service, found.api_version) == ("nimble", "2020-08-01")
        assert set(dataset.key) <= {member.name for member in found.record.members}


def test_streaming_sessions_are_what_the_api_says():
    dataset = builtin_datasets()["streaming_sessions"]
    found = describe_operation(SESSION, dataset)
    assert (found.name, found.result_key, found.token_key) == ("ListStreamingSessions", "sessions", "nextToken")
    assert (found.result_member, found.token_member, found.input_token) == ("sessions", "nextToken", "nextToken")
    assert found.parameters == ("createdBy", "ownedBy", "sessionIds", "studioId")
    kinds = {path: member.kind for path, member in members(found.record).items()}
    assert kinds["sessionId"] == "string"
    assert kinds["startedAt"] == "timestamp"
    assert kinds["volumeConfiguration.size"] == "integer"
    assert kinds["tags"] == "map"
    assert "READY" in members(found.record)["state"].enum
    assert dataset.item_name == "streaming_session"
    assert dataset.units["volume_configuration_size"] == "GiB"


def test_units_name_columns_that_exist():
    """A unit of a misspelt column would silently be no unit."""
    for dataset in builtin_datasets().values():
        columns = {name for name, _, _ in leaves(describe_operation(SESSION, dataset).record)}
        assert dataset.units.keys() <= columns


# Selection


def test_parents_come_before_their_children_and_once():
    assert list(select_datasets(["streaming_sessions", "studios"])) == ["studios", "streaming_sessions"]
    assert list(select_datasets(["streaming_sessions"])) == ["studios", "streaming_sessions"]
    assert list(select_datasets([])) == []


def test_definition_in_place_replaces_the_built_in_one():
    mine = define("nimble", "list_studios", ("arn",), name="studios")
    assert select_datasets(["streaming_sessions", mine])["studios"] == mine


def test_grandparents_come_first():
    a, b, c = (
        define("s", "o", ("k",), name=name, for_each=ForEach(dataset=above, bind={"p": "k"}) if above else None)
        for name, above in (("c", "b"), ("b", "a"), ("a", None))
    )
    assert list(select_datasets([a, b, c])) == ["a", "b", "c"]


def test_unknown_dataset_is_refused_with_those_that_there_are():
    with pytest.raises(
        ConfigError,
        match=r"'sessions' is not defined .did you mean streaming_sessions.*; known are studios, streaming_sessions",
    ):
        select_datasets(["sessions"])


def test_circle_of_parents_is_refused():
    circle = [
        define("s", "o", ("k",), name=name, for_each=ForEach(dataset=above, bind={"p": "k"}))
        for name, above in (("a", "b"), ("b", "c"), ("c", "a"))
    ]
    with pytest.raises(ConfigError, match=r"a -> b -> c -> a$"):
        select_datasets(circle)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"created_by": "me"}, {"createdBy": "me"}),
        ({"createdBy": "me"}, {}),
        ({"owned_by": "me"}, {}),
        ({}, {}),
        ({"created_by": "'; drop", "studio_id": ""}, {"createdBy": "'; drop", "studioId": ""}),
    ],
)
def test_filters_are_sent_under_the_names_of_the_parameters_that_the_operation_has(given, expected):
    assert parameter_names(operation(), given) == expected


# Any service


@pytest.mark.parametrize(
    ("service", "name", "key"),
    [
        ("deadline", "list_farms", "farm_id"),
        ("workspaces", "describe_workspaces", "workspace_id"),
        ("kafka", "list_clusters_v2", "cluster_arn"),
        ("medialive", "list_channels", "id"),
        ("kms", "list_keys", "key_id"),
        ("stepfunctions", "list_state_machines", "state_machine_arn"),
    ],
)
def test_any_json_paginator_of_botocore_can_be_described(service, name, key):
    found = describe(service, name, key)
    assert found.record.kind == "structure"
    assert key in {member.name for member in found.record.members}


def test_names_on_the_wire_are_not_always_those_of_the_client():
    """The raw page has the first, botocore's paginator asks for the second; one for the other is a malformed page."""
    found = describe("medialive", "list_channels", "id")
    assert (found.result_key, found.token_key) == ("channels", "nextToken")
    assert (found.result_member, found.token_member) == ("Channels", "NextToken")
    assert {"arn", "id", "state"} <= {member.api_name for member in found.record.members}


def test_token_and_page_size_are_no_parameters():
    found = describe("deadline", "list_queues", "queue_id")
    assert found.parameters == ("farmId", "principalId", "status")


def test_whole_description_survives_json():
    """The ledger keeps it, and publishes from it without botocore."""
    found = describe("medialive", "list_channels", "id")
    assert type(found).model_validate_json(found.model_dump_json()) == found


def test_hash_of_the_model_changes_with_the_model_and_only_then():
    found = operation()
    assert found.model_hash == operation().model_hash
    assert found.model_hash != operation(parameters=("studioId",)).model_hash


@pytest.mark.parametrize(
    ("service", "name", "key", "says"),
    [
        ("nimbl", "list_studios", "studio_id", "botocore has no service 'nimbl'"),
        ("nimble", "list_films", "film_id", "nimble has no operation 'list_films'"),
        ("nimble", "get_studio", "studio_id", "no operation 'get_studio'"),
        ("deadline", "get_farm", "farm_id", "GetFarm: its responses have no list, and no structure"),
        ("apigateway", "get_usage", "x", "'items' in its responses is a map; expected a list"),
        ("bedrock-agentcore-control", "list_dataset_examples", "x", "its records have no members"),
        ("nimble", "list_studios", "studio_idd", "key names 'studio_idd'; the records have .*studio_id"),
    ],
)
def test_operation_that_cannot_be_exported_is_refused_with_the_reason(service, name, key, says):
    with pytest.raises(ConfigError, match=f"^dataset items: .*({says})"):
        describe(service, name, key)


@pytest.mark.parametrize(
    ("result_key", "says"),
    [
        ("Reservations.Instances", "no member 'Reservations.Instances'"),
        ("Reservations[0]", "expected a path of names"),
        ("Nothing", "no member 'Nothing'"),
        ("NextToken[]", "'NextToken' in its responses is a string; expected a list"),
    ],
)
def test_result_key_that_leads_nowhere_is_refused(result_key, says):
    with pytest.raises(ConfigError, match=says):
        describe("ec2", "describe_instances", "instance_id", result_key=result_key)


def test_result_key_may_lead_through_lists():
    found = describe("ec2", "describe_instances", "instance_id", result_key="Reservations[].Instances[]")
    assert found.pager.result == "Reservations[].Instances[]"
    assert not found.pager.is_primary
    assert "instance_type" in {member.name for member in found.record.members}


@pytest.mark.parametrize(
    ("service", "name", "key", "pager"),
    [
        ("dynamodb", "list_tables", "value", {"is_plain": True, "is_always_there": True}),
        ("kinesis", "list_streams", "value", {"more_results": "HasMoreStreams", "is_plain": True}),
        ("iam", "list_users", "user_id", {"protocol": "query", "more_results": "IsTruncated"}),
        ("ec2", "describe_volumes", "volume_id", {"protocol": "ec2"}),
        ("s3", "list_object_versions", "version_id", {"input_tokens": ("KeyMarker", "VersionIdMarker")}),
        ("route53", "list_resource_record_sets", "name", {"protocol": "rest-xml"}),
    ],
)
def test_what_is_no_simple_json_list_goes_through_botocores_parser(service, name, key, pager):
    found = describe(service, name, key)
    assert {field: getattr(found.pager, field) for field in pager} == pager
    assert found.result_key == "records"


def test_a_list_that_may_be_missing_goes_through_botocores_parser():
    assert describe("deadline", "list_farms", "farm_id").pager is None
    assert describe("deadline", "list_farms", "farm_id", allow_missing_list=True).pager is not None


@pytest.mark.parametrize(("column", "says"), [("nothing", "names 'nothing'"), ("state", "'state', a string")])
def test_order_that_could_not_tell_the_newest_is_refused(column, says):
    """A record with two versions would be kept by chance, and nobody would know."""
    with pytest.raises(ConfigError, match=says):
        describe("nimble", "list_studios", "studio_id", order_by=column)


# Shapes


def test_facts_of_a_member_are_those_of_its_shape():
    found = thing(
        state={"type": "string", "enum": ["A", "B"], "documentation": "<p>How it\n is. <b>Now</b></p>"},
        size={"type": "integer", "min": 1, "max": 9},
        secret={"type": "string", "sensitive": True},
    )
    assert found["state"].enum == ("A", "B")
    assert found["state"].documentation == "How it is. Now"
    assert (found["size"].minimum, found["size"].maximum) == (1, 9)
    assert found["secret"].sensitive
    assert not found["state"].sensitive


@pytest.mark.parametrize("kind", ["string", "integer", "long", "float", "double", "boolean", "timestamp", "blob"])
def test_kind_is_that_of_the_shape(kind):
    assert thing(x={"type": kind})["x"].kind == kind


def test_character_is_text_and_an_unheard_of_type_is_a_document():
    assert thing(x={"type": "character"})["x"].kind == "string"
    assert thing(x={"type": "bigdecimal"})["x"].kind == "document"


def test_document_type_is_a_document():
    assert thing(x={"type": "structure", "members": {}, "document": True})["x"].kind == "document"


def test_structure_without_members_is_a_document():
    """Parquet cannot write a struct without fields: the night would end there."""
    assert thing(x={"type": "structure", "members": {}})["x"].kind == "document"
    inside = thing(x={"type": "list", "member": {"shape": "Xy"}}, y={"type": "structure", "members": {}})
    assert inside["x"].element.kind == "document"


def test_structure_that_holds_itself_is_a_document_where_it_comes_back():
    """Directly, through a list, through a map, and through another structure."""
    found = thing(
        tree={
            "type": "structure",
            "members": {
                "name": {"shape": "S"}, "child": {"shape": "Xtree"}, "children": {"shape": "Xtrees"},
                "byName": {"shape": "Xforest"}, "holder": {"shape": "Xholder"},
            },
        },
        trees={"type": "list", "member": {"shape": "Xtree"}},
        forest={"type": "map", "key": {"shape": "S"}, "value": {"shape": "Xtree"}},
        holder={"type": "structure", "members": {"tree": {"shape": "Xtree"}, "name": {"shape": "S"}}},
    )  # fmt: skip
    below = {member.name: member for member in found["tree"].members}
    assert below["child"].kind == "document"
    assert below["children"].element.kind == "document"
    assert below["by_name"].element.kind == "document"
    assert {member.name: member.kind for member in below["holder"].members} == {"tree": "document", "name": "string"}


def test_same_structure_twice_side_by_side_is_no_recursion():
    found = thing(
        a={"type": "structure", "members": {"left": {"shape": "Xb"}, "right": {"shape": "Xb"}}},
        b={"type": "structure", "members": {"n": {"shape": "S"}}},
    )
    assert [member.kind for member in found["a"].members] == ["structure", "structure"]


def test_wire_name_of_a_member_wins_over_the_name_in_the_model():
    session = FakeSession(
        {
            "Thing": {
                "type": "structure",
                "members": {"Id": {"shape": "S", "locationName": "id"}, "FullName": {"shape": "S"}},
            }
        }
    )
    found = describe_operation(session, define("things", "list_things", ("id",)))
    assert [(member.api_name, member.name) for member in found.record.members] == [
        ("id", "id"),
        ("FullName", "full_name"),
    ]
