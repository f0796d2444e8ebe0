"""The bundled Nimble service model says exactly what is known of the API.

`tests/data/nimble-api.json` holds the facts of the Amazon Nimble Studio API, version 2020-08-01, for its ten
paginated list operations: names, types, limits, errors. They are compared with the model as botocore sees it.
"""

import json
from pathlib import Path
from typing import Any

import botocore.exceptions
import botocore.session
import pytest
from botocore.config import Config
from botocore.model import (
    ListShape,
    MapShape,
    OperationModel,
    ServiceModel,
    Shape,
    StringShape,
    StructureShape,
)

ROOT = Path(__file__).parents[2]
FACTS: dict[str, Any] = json.loads((ROOT / "tests/data/nimble-api.json").read_text())
OPERATIONS: dict[str, Any] = FACTS["operations"]
STRUCTURES: dict[str, Any] = FACTS["structures"]
CONSTRAINTS = ("min", "max", "pattern", "sensitive")


@pytest.fixture(scope="module")
def session() -> botocore.session.Session:
    session = botocore.session.Session()
    session.get_component("data_loader").search_paths.append(str(ROOT / "etl/extract/service_models"))
    session.set_credentials("AKIDEXAMPLE", "not-a-secret")
    return session


@pytest.fixture(scope="module")
def model(session: botocore.session.Session) -> ServiceModel:
    return session.get_service_model("nimble")


@pytest.fixture(scope="module")
def client(session: botocore.session.Session) -> Any:
    return session.create_client("nimble", region_name="us-west-2")


def facts_of(shape: Shape) -> dict[str, Any]:
    """Describe a shape in the vocabulary of the facts file, so that the two can be compared with `==`."""
    facts: dict[str, Any] = {"type": shape.type_name}
    facts |= {name: shape.metadata[name] for name in CONSTRAINTS if name in shape.metadata}
    match shape:
        case StructureShape():
            facts["ref"] = shape.name
        case ListShape():
            facts["of"] = facts_of(shape.member)
        case MapShape():
            facts |= {"key": facts_of(shape.key), "value": facts_of(shape.value)}
        case StringShape() if shape.enum:
            facts["enum"] = shape.enum
        case _ if shape.type_name == "timestamp":
            facts["format"] = shape.serialization["timestampFormat"]
    return facts


def members_of(structure: StructureShape) -> dict[str, Any]:
    """Describe each member of a structure, with the required mark of the facts file."""
    required = {name: {"required": True} for name in structure.required_members}
    return {name: facts_of(shape) | required.get(name, {}) for name, shape in structure.members.items()}


def without_notes(members: dict[str, Any]) -> dict[str, Any]:
    return {name: {k: v for k, v in facts.items() if k != "note"} for name, facts in members.items()}


def input_of(operation: OperationModel) -> dict[str, Any]:
    parameters = members_of(operation.input_shape)
    for name, shape in operation.input_shape.members.items():
        location = {"uri": "path", "querystring": "query"}[shape.serialization["location"]]
        assert shape.serialization["name"] == name
        parameters[name] |= {"in": location, "required": name in operation.input_shape.required_members}
    return parameters


def test_service_metadata_equals_the_facts(model: ServiceModel) -> None:
    """Signing name, protocol and version decide whether a request is understood at all."""
    facts = FACTS["service"]
    for name in (
        "endpointPrefix",
        "signingName",
        "signatureVersion",
        "serviceId",
        "protocol",
        "apiVersion",
        "uid",
    ):
        assert model.metadata[name] == facts[name]
    assert sorted(model.operation_names) == sorted(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_equals_the_facts(model: ServiceModel, name: str) -> None:
    """Path, parameters, limits, success status and errors."""
    facts, operation = OPERATIONS[name], model.operation_model(name)
    assert operation.http == {
        "method": facts["method"],
        "requestUri": facts["path"],
        "responseCode": facts["success"],
    }
    assert input_of(operation) == facts["parameters"]
    errors = {shape.name: shape.metadata["error"]["httpStatusCode"] for shape in operation.error_shapes}
    assert errors == facts["errors"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_pagination_equals_the_facts(model: ServiceModel, client: Any, name: str) -> None:
    """The paginator finds its token, its list and its page size where the facts say."""
    facts, output = OPERATIONS[name]["pagination"], model.operation_model(name).output_shape
    config = client.get_paginator(botocore.xform_name(name))._pagination_cfg
    assert config == facts
    assert output.members[facts["output_token"]].type_name == "string"
    assert output.members[facts["result_key"]].member.name == OPERATIONS[name]["item"]


@pytest.mark.parametrize("name", STRUCTURES)
def test_structure_equals_the_facts(model: ServiceModel, name: str) -> None:
    """Every member with its type, enum, limits, sensitive and required marks."""
    assert members_of(model.shape_for(name)) == without_notes(STRUCTURES[name])


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_member_is_documented_in_plain_text(model: ServiceModel, name: str) -> None:
    """These sentences become the data dictionary, and the comments of the columns."""
    shape = model.shape_for(name)
    for text in (shape.documentation, *(member.documentation for member in shape.members.values())):
        assert text.endswith(".")
        assert not set("<>\n") & set(text)


def test_session_has_27_members(model: ServiceModel) -> None:
    assert len(model.shape_for("StreamingSession").members) == 27


@pytest.mark.parametrize(("member", "unit"), [("iops", "per second"), ("size", "GiB"), ("throughput", "MiB/s")])
def test_volume_members_state_their_unit(model: ServiceModel, member: str, unit: str) -> None:
    assert unit in model.shape_for("VolumeConfiguration").members[member].documentation


def test_errors_are_typed_exceptions_with_code_message_and_context(model: ServiceModel, client: Any) -> None:
    """Callers catch `client.exceptions.ThrottlingException` and read its context."""
    names = {name for operation in OPERATIONS.values() for name in operation["errors"]}
    assert names == {shape.name for shape in model.error_shapes}
    for name in names:
        assert issubclass(getattr(client.exceptions, name), client.exceptions.ClientError)
        members = {key: shape.type_name for key, shape in model.shape_for(name).members.items()}
        assert members == {"code": "string", "message": "string", "context": "map"}


def test_default_endpoint_is_the_region_host(client: Any) -> None:
    assert client.meta.endpoint_url == "https://nimble.us-west-2.amazonaws.com"
    url = client._resolve_endpoint_ruleset(client.meta.service_model.operation_model("ListStudios"), {}, {})[0]
    assert url == client.meta.endpoint_url


def test_endpoint_url_replaces_the_region_host(session: botocore.session.Session) -> None:
    client = session.create_client("nimble", region_name="us-west-2", endpoint_url="http://127.0.0.1:8790")
    url = client._resolve_endpoint_ruleset(client.meta.service_model.operation_model("ListStudios"), {}, {})[0]
    assert url == "http://127.0.0.1:8790"


def test_endpoints_that_never_were_are_refused(session: botocore.session.Session) -> None:
    """Nothing is known of FIPS or dual-stack hosts: an error beats a name that does not resolve."""
    for config in (Config(use_fips_endpoint=True), Config(use_dualstack_endpoint=True)):
        client = session.create_client("nimble", region_name="us-west-2", config=config)
        with pytest.raises(botocore.exceptions.EndpointProviderError, match=r"no (FIPS|dual-stack) endpoint"):
            client.list_studios()


def test_lists_of_results_have_the_bounds_of_the_last_botocore_that_knew_nimble(model):
    """Botocore 1.35.47, nimble 2020-08-01: the lengths of two lists, and the one list that is always there."""
    bounds = {name: model.shape_for(name).metadata for name in ("StudioMembershipList", "StudioComponentList")}
    assert bounds == {"StudioMembershipList": {"min": 0, "max": 20}, "StudioComponentList": {"min": 0, "max": 50}}
    required = {
        name: model.operation_model(name).output_shape.required_members
        for name in model.operation_names
        if name.startswith("List")
    }
    assert {name for name, members in required.items() if members} == {"ListStudios"}
    assert required["ListStudios"] == ["studios"]
