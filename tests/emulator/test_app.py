"""The wire, seen by a real botocore client."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from etl.emulator import EmbeddedStudio, StudioSettings, World
from etl.emulator.app import load_operations

OPERATIONS = [operation.name for operation in load_operations()]
WORLD = World(sessions_per_studio=40)
STUDIO = WORLD.studio_ids[0]


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def studio(night: datetime, clock: Clock) -> Iterator[EmbeddedStudio]:
    settings = StudioSettings(page_size=3, instant=night, now=clock, token_lifetime_s=60)
    with EmbeddedStudio(WORLD, settings) as studio:
        yield studio


@pytest.fixture
def client(studio: EmbeddedStudio, connect: Any) -> Any:
    return connect(studio)


def parameters_of(client: Any, operation: str, night: datetime) -> dict[str, str]:
    names = client.meta.service_model.operation_model(operation).input_shape.required_members
    profile = next(WORLD.records("ListLaunchProfiles", {"studioId": STUDIO}, night))["launchProfileId"]
    return {name: {"studioId": STUDIO, "launchProfileId": profile}[name] for name in names}


def items(client: Any, operation: str, **parameters: Any) -> list[Any]:
    paginator = client.get_paginator(xform_name(operation))
    return list(paginator.paginate(**parameters).search(paginator.result_keys[0].expression))


def code_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_paginator_returns_the_worlds_own_records(
    studio: EmbeddedStudio, client: Any, night: datetime, operation: str
) -> None:
    """Parsed by botocore, page by page, every listing equals what the world holds: order, types, absences."""
    parameters = parameters_of(client, operation, night)
    expected = list(WORLD.records(operation, parameters, night))
    assert items(client, operation, **parameters) == expected
    assert len(studio.requests) == -(-len(expected) // 3)
    assert [request.token is None for request in studio.requests] == [True] + [False] * (len(studio.requests) - 1)


def test_last_page_has_no_token(client: Any) -> None:
    assert "nextToken" not in client.list_studios()


def test_max_results_is_honoured_up_to_the_page_size(client: Any) -> None:
    sizes = [len(client.list_launch_profiles(studioId=STUDIO, maxResults=n)["launchProfiles"]) for n in (1, 2, 50)]
    assert sizes == [1, 2, 3]


@pytest.mark.parametrize("name", ["createdBy", "ownedBy", "sessionIds"])
def test_session_filters_keep_what_they_name(client: Any, night: datetime, name: str) -> None:
    """Filters run on the server; sessionIds is one string of comma-separated ids."""
    records = list(WORLD.records("ListStreamingSessions", {"studioId": STUDIO}, night))
    member = name.removesuffix("s")
    value = ",".join(record[member] for record in records[4:6]) if name == "sessionIds" else records[4][member]
    expected = [record for record in records if record[member] in value]
    assert 0 < len(expected) < len(records)
    assert items(client, "ListStreamingSessions", studioId=STUDIO, **{name: value}) == expected


def test_other_filters_keep_what_they_name(client: Any) -> None:
    def listed(operation: str, **parameters: Any) -> list[Any]:
        return items(client, operation, studioId=STUDIO, **parameters)

    eulas = items(client, "ListEulas")
    assert items(client, "ListEulas", eulaIds=[eulas[1]["eulaId"]]) == [eulas[1]]
    assert len(listed("ListEulaAcceptances", eulaIds=[eula["eulaId"] for eula in eulas[:2]])) == 2
    components = listed("ListStudioComponents", types=["COMPUTE_FARM", "CUSTOM"], states=["READY"])
    assert {component["type"] for component in components} == {"COMPUTE_FARM", "CUSTOM"}
    assert listed("ListStudioComponents", states=["DELETED"]) == []
    assert {image["owner"] for image in listed("ListStreamingImages", owner="amazon")} == {"amazon"}
    backups = listed("ListStreamingSessionBackups")
    owner = backups[0]["ownedBy"]
    assert listed("ListStreamingSessionBackups", ownedBy=owner) == [b for b in backups if b["ownedBy"] == owner]
    profile = listed("ListLaunchProfiles")[2]
    user = listed("ListLaunchProfileMembers", launchProfileId=profile["launchProfileId"])[-1]["principalId"]
    assert listed("ListLaunchProfiles", principalId=user) == [profile]


def test_unknown_studio_and_launch_profile_are_not_found(client: Any) -> None:
    with pytest.raises(client.exceptions.ResourceNotFoundException) as error:
        client.list_streaming_sessions(studioId="us-west-2-nowhere")
    assert code_of(error) == (404, "ResourceNotFoundException")
    assert error.value.response["code"] == "ResourceNotFoundException"
    assert error.value.response["context"] == {}
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.list_launch_profile_members(studioId=STUDIO, launchProfileId="nobodys")


@pytest.mark.parametrize(
    "wrong",
    [
        {"maxResults": 0},
        {"maxResults": 101},
        {"maxResults": "ten"},
        {"states": ["ASLEEP"]},
        {"nextToken": "x"},
    ],
)
def test_malformed_parameter_is_a_validation_error(client: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(client.exceptions.ValidationException) as error:
        client.list_launch_profiles(studioId=STUDIO, **wrong)
    assert code_of(error) == (400, "ValidationException")


def test_unknown_path_is_an_unknown_operation(studio: EmbeddedStudio, get: Any) -> None:
    response, _ = get(studio, "/2020-08-01/nothing")
    assert (response.status, response.headers["x-amzn-errortype"]) == (404, "UnknownOperationException")


def test_token_is_bound_to_operation_path_and_filters(client: Any) -> None:
    """A token of another listing must not be mistaken for a position in this one."""
    token = client.list_streaming_sessions(studioId=STUDIO)["nextToken"]
    assert client.list_streaming_sessions(studioId=STUDIO, nextToken=token)["sessions"]
    for call in (
        lambda: client.list_streaming_sessions(studioId=WORLD.studio_ids[1], nextToken=token),
        lambda: client.list_streaming_sessions(studioId=STUDIO, ownedBy="somebody", nextToken=token),
        lambda: client.list_streaming_session_backups(studioId=STUDIO, nextToken=token),
        lambda: client.list_streaming_sessions(studioId=STUDIO, nextToken=token[:-4] + "AAAA"),
        lambda: client.list_streaming_sessions(studioId=STUDIO, nextToken=""),
    ):
        with pytest.raises(client.exceptions.ValidationException):
            call()


def test_token_expires_after_its_lifetime(client: Any, clock: Clock) -> None:
    token = client.list_streaming_sessions(studioId=STUDIO)["nextToken"]
    clock.ahead = timedelta(seconds=50)
    assert client.list_streaming_sessions(studioId=STUDIO, nextToken=token)["sessions"]
    clock.ahead = timedelta(seconds=70)
    with pytest.raises(client.exceptions.ValidationException, match="expired"):
        client.list_streaming_sessions(studioId=STUDIO, nextToken=token)


def test_tokens_use_the_standard_base64_alphabet(client: Any) -> None:
    """They hold characters that a URL must escape: whoever forgets to is found out."""
    pages = client.get_paginator("list_streaming_sessions").paginate(studioId=STUDIO)
    assert set("+/=") & set("".join(page.get("nextToken", "") for page in pages))


def test_missing_signature_is_refused(studio: EmbeddedStudio, connect: Any) -> None:
    client = connect(studio, signature_version=botocore.UNSIGNED)
    with pytest.raises(ClientError) as error:
        client.list_studios()
    assert code_of(error) == (403, "MissingAuthenticationTokenException")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"credentials": (EmbeddedStudio.credentials[0], "wrong")}, "InvalidSignatureException"),
        ({"credentials": ("AKIASOMEBODYELSE0000", "wrong")}, "UnrecognizedClientException"),
        ({"region": "eu-central-1"}, "InvalidSignatureException"),
    ],
)
def test_wrong_signature_is_refused(studio: EmbeddedStudio, connect: Any, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as error:
        connect(studio, **changes).list_studios()
    assert code_of(error) == (403, code)


def test_malformed_authorization_is_refused(client: Any) -> None:
    def replace_authorization(request: Any, **_: Any) -> None:
        request.headers["Authorization"] = "Basic Zm9vOmJhcg=="

    client.meta.events.register("before-send.nimble", replace_authorization)
    with pytest.raises(ClientError) as error:
        client.list_studios()
    assert code_of(error) == (403, "IncompleteSignatureException")


def test_changed_request_breaks_the_signature(client: Any) -> None:
    """The signature covers the query: nobody may swap a filter on the way."""

    def swap(request: Any, **_: Any) -> None:
        request.url = request.url.replace("somebody", "another")

    client.meta.events.register("before-send.nimble", swap)
    with pytest.raises(ClientError) as error:
        client.list_streaming_sessions(studioId=STUDIO, ownedBy="somebody")
    assert code_of(error) == (403, "InvalidSignatureException")


@pytest.mark.parametrize(("minutes", "word"), [(6, "expired"), (-6, "not yet current")])
def test_clock_skew_is_refused_with_the_servers_date(client: Any, clock: Clock, minutes: int, word: str) -> None:
    """Who is refused for the time can read the right one in the Date header."""
    clock.ahead = timedelta(minutes=minutes)
    with pytest.raises(ClientError, match=word) as error:
        client.list_studios()
    assert code_of(error) == (403, "InvalidSignatureException")
    date = error.value.response["ResponseMetadata"]["HTTPHeaders"]["date"]
    assert abs(datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC) - clock()) < timedelta(
        minutes=1
    )


def test_sts_says_whose_account_it_is(studio: EmbeddedStudio, connect: Any) -> None:
    identity = connect(studio, "sts").get_caller_identity()
    assert identity["Account"] == "123456789012"
    assert studio.requests[-1].operation == "GetCallerIdentity"


def test_sts_refuses_what_is_signed_for_another_service(studio: EmbeddedStudio, connect: Any) -> None:
    with pytest.raises(ClientError) as error:
        connect(studio, "sts", credentials=(EmbeddedStudio.credentials[0], "wrong")).get_caller_identity()
    assert code_of(error) == (403, "InvalidSignatureException")


def test_same_seed_and_instant_give_the_same_bytes(night: datetime, get: Any) -> None:
    """... tokens included, and in another server: a walk goes on after a restart."""
    bodies = []
    for _ in range(2):
        with EmbeddedStudio(WORLD, StudioSettings(page_size=3, instant=night)) as studio:
            bodies.append(get(studio, f"/2020-08-01/studios/{STUDIO}/streaming-sessions")[1])
    assert bodies[0] == bodies[1]
    assert b"nextToken" in bodies[0]


def test_request_log_says_what_was_asked_and_answered(studio: EmbeddedStudio, client: Any) -> None:
    token = client.list_streaming_sessions(studioId=STUDIO, ownedBy="nobody").get("nextToken")
    answer = client.list_launch_profiles(studioId=STUDIO, maxResults=2)
    first, second = studio.requests
    assert (first.sequence, first.operation, first.token, first.status) == (
        1,
        "ListStreamingSessions",
        token,
        200,
    )
    assert first.parameters == {"studioId": STUDIO, "ownedBy": "nobody"}
    assert second.parameters == {"studioId": STUDIO, "maxResults": 2}
    assert second.request_id == answer["ResponseMetadata"]["RequestId"] != first.request_id
