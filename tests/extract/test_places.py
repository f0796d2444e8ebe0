"""Accounts and Regions: which services are listed where, by what botocore knows of partitions."""

import logging

import pytest

from etl.config import SourceSettings
from etl.errors import ConfigError
from etl.extract.accounts import Accounts, Signer, asking_as
from etl.extract.places import Places

ACCOUNT = "111111111111"


def regions(service, opted_in=(), **source):
    return [place.region for place in Places(SourceSettings(**source)).all(service, ACCOUNT, opted_in)]


@pytest.mark.parametrize("service", ["iam", "s3", "cloudfront", "route53", "organizations", "account"])
def test_a_service_of_the_whole_partition_is_listed_once(service):
    assert regions(service, regions=["us-*", "eu-west-1"]) == ["aws-global"]
    assert regions(service, region="cn-north-1", regions=["cn-*"]) == ["aws-cn-global"]


def test_a_service_is_listed_in_each_region_that_matches():
    assert regions("ec2", regions=["us-*", "eu-west-1", "us-east-1"]) == [
        "us-east-1", "us-east-2", "us-west-1", "us-west-2", "eu-west-1",
    ]  # fmt: skip


def test_without_accounts_and_regions_every_service_is_listed_in_the_one_region_as_ever():
    assert regions("iam", region="us-west-2") == ["us-west-2"]


def test_without_regions_accounts_are_listed_in_the_one_region():
    assert regions("ec2", accounts=[{"id": ACCOUNT}]) == ["us-west-2"]


def test_regions_of_an_account_come_before_those_of_all():
    source = {"accounts": [{"id": ACCOUNT, "regions": ["eu-west-1"]}], "regions": "us-*"}
    assert regions("ec2", **source) == ["eu-west-1"]


def test_regions_that_the_account_has_opted_into():
    places = Places(SourceSettings(regions="opted-in"))
    assert places.are_opted_in(ACCOUNT)
    assert list(places.listings) == ["etl_regions"]
    assert regions("ec2", ["ap-east-1", "us-east-1"], regions="opted-in") == ["ap-east-1", "us-east-1"]


def test_a_region_where_a_service_has_no_endpoint_is_left_out_with_a_note(caplog):
    """A request there would wait for a name that nobody resolves."""
    with caplog.at_level(logging.INFO):
        assert regions("ecr-public", regions=["us-east-1", "eu-west-1", "ap-*"]) == ["us-east-1"]
    levels = {record.levelname for record in caplog.records}
    assert "ecr-public is not listed in eu-west-1: botocore knows no endpoint of it there" in caplog.text
    assert levels == {"WARNING", "INFO"}  # a warning for what is named


def test_a_service_and_a_region_that_botocore_does_not_know_are_asked():
    assert regions("nimble", regions=["us-east-1"]) == ["us-east-1"]
    assert regions("ec2", regions=["us-north-7"]) == ["us-north-7"]


def test_a_new_partition_is_one():
    assert regions("ec2", region="eusc-de-east-1", regions=["eusc-*"]) == ["eusc-de-east-1"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"regions": ["xx-*"]}, r"source.regions: 'xx-\*' matches no Region; known are .*us-west-2"),
        ({"regions": ["us-wset"]}, r"source.regions: 'us-wset' is no Region \(did you mean us-west-2\?\); known are "),
        ({"regions": ["cn-north-1"]}, "cn-north-1 is a Region of the partition aws-cn, source.region us-west-2 of aws"),
        ({"accounts": [{"id": ACCOUNT, "regions": ["yy-*"]}]}, r"source.accounts.0.regions: 'yy-\*' matches no Region"),
        ({"region": "zz-north-1", "regions": ["us-*"]}, "source.region: 'zz-north-1' is no Region"),
    ],
)
def test_a_region_that_is_none_is_named_with_those_that_are(source, says):
    with pytest.raises(ConfigError, match=says):
        Places(SourceSettings(**source))


def test_outside_of_a_request_for_an_account_nothing_is_signed():
    """And inside, what is inside another account's request does not leak out of it."""
    accounts = Accounts(SourceSettings(accounts=[{"id": ACCOUNT}]), "aws", None, None, lambda: ACCOUNT)
    with asking_as(ACCOUNT), asking_as("222222222222"):
        pass
    with pytest.raises(LookupError):
        Signer(accounts).get_frozen_credentials()
