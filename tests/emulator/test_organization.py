"""Several accounts, seen by a real botocore client: who may see what, with which keys, and for how long."""

from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from etl.emulator import EmbeddedStudio, Organization, StudioSettings, World

MEMBERS = ("200000000001", "200000000002", "200000000003")
ORGANIZATION = Organization(MEMBERS, suspended=MEMBERS[2:], role="reader", external_id="ext-1")


@pytest.fixture
def clock():
    """How far the studio's clock is ahead; tests change its only entry."""
    return [timedelta()]


@pytest.fixture
def studio(night, clock):
    settings = StudioSettings(page_size=2, instant=night, now=lambda: datetime.now(UTC) + clock[0])
    with EmbeddedStudio(World(studios=1, sessions_per_studio=4), settings, organization=ORGANIZATION) as studio:
        yield studio


@pytest.fixture
def client_of(studio, botocore_session):
    """Return a function that returns a client with the keys of a role in an account; None: the management account."""

    def client_of(account_id, service="nimble", region="us-west-2", **role):
        keys = dict(zip(("aws_access_key_id", "aws_secret_access_key"), studio.credentials, strict=True))
        where = {"region_name": region, "endpoint_url": studio.endpoint_url}
        if account_id:
            arn = f"arn:aws:iam::{account_id}:role/{role.get('name', 'reader')}"
            asked = {"RoleArn": arn, "RoleSessionName": "test", "ExternalId": role.get("external_id", "ext-1")}
            given = botocore_session.create_client("sts", **where, **keys).assume_role(**asked)["Credentials"]
            keys = {
                "aws_access_key_id": given["AccessKeyId"],
                "aws_secret_access_key": given["SecretAccessKey"],
                "aws_session_token": given["SessionToken"],
            }
        return botocore_session.create_client(service, **where, **keys)

    return client_of


def code_of(call, **parameters):
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return caught.value.response["Error"]["Code"]


def test_each_account_and_region_has_its_own_studios(client_of):
    places = [(None, "us-west-2"), (MEMBERS[0], "us-west-2"), (MEMBERS[0], "us-east-1")]
    studios = [client_of(account, region=region).list_studios()["studios"] for account, region in places]
    assert len({studio["studioId"] for (studio,) in studios}) == 3
    assert [studio["arn"].split(":")[3:5] for (studio,) in studios] == [
        [region, account or "123456789012"] for account, region in places
    ]


def test_a_studio_is_shown_only_to_its_own_account(client_of):
    (studio,) = client_of(MEMBERS[0]).list_studios()["studios"]
    other = client_of(MEMBERS[1])
    assert code_of(other.list_streaming_sessions, studioId=studio["studioId"]) == "AccessDeniedException"
    assert code_of(other.list_streaming_sessions, studioId="us-west-2-nobodyhas0") == "ResourceNotFoundException"


def test_the_keys_of_a_role_are_over_by_the_clock_of_the_studio(client_of, clock, monkeypatch):
    client = client_of(MEMBERS[0])
    for passed, code in ((timedelta(minutes=59), None), (timedelta(minutes=61), "ExpiredTokenException")):
        clock[0] = passed
        at = datetime.now(UTC).replace(tzinfo=None) + passed
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda at=at: at)
        if code:
            assert code_of(client.list_studios) == code
        else:
            assert client.list_studios()["studios"]


@pytest.mark.parametrize(
    ("account_id", "role"), [(MEMBERS[0], {"name": "other"}), (MEMBERS[0], {"external_id": "no"}), ("999999999999", {})]
)
def test_a_role_that_does_not_trust_the_caller_is_refused(client_of, account_id, role):
    assert code_of(client_of, account_id=account_id, **role) == "AccessDenied"


def test_a_region_that_nobody_has_opted_into_is_refused(client_of):
    assert code_of(client_of(MEMBERS[0], region="ap-east-1").list_studios) == "UnrecognizedClientException"
    regions = client_of(MEMBERS[0], "account").get_paginator("list_regions").paginate().search("Regions[]")
    states = {region["RegionName"]: region["RegionOptStatus"] for region in regions}
    assert states == {
        **dict.fromkeys(("us-west-2", "us-east-1", "eu-central-1"), "ENABLED_BY_DEFAULT"),
        "ap-east-1": "DISABLED",
    }


def test_the_management_account_lists_accounts_and_units(client_of):
    client = client_of(None, "organizations")
    accounts = list(client.get_paginator("list_accounts").paginate().search("Accounts[]"))
    assert [account["Id"] for account in accounts] == ["123456789012", *MEMBERS]
    assert [account["State"] for account in accounts] == ["ACTIVE", "ACTIVE", "ACTIVE", "SUSPENDED"]
    (unit,) = client.list_organizational_units_for_parent(ParentId="ou-emb1-00000001")["OrganizationalUnits"]
    (account,) = client.list_accounts_for_parent(ParentId=unit["Id"])["Accounts"]
    assert account["Id"] == MEMBERS[1]
    assert code_of(client_of(MEMBERS[0], "organizations").list_accounts) == "AccessDeniedException"
    assert code_of(client.list_accounts_for_parent, ParentId="ou-emb1-99999999") == "ParentNotFoundException"
