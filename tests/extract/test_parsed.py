"""Pages that botocore parses: what is one and what is not, tokens of every form, and values as boto3 has them.

The real boto3 client talks to a socket on loopback that answers with exactly the bytes that a test says.
"""

import itertools
import json
import struct

import pytest
from botocore.paginate import TokenDecoder, TokenEncoder
from support.answers import http, source_at, stopped_source_at
from support.shapes import part, snapshot

from etl.errors import ConfigError, SourceError, TransientSourceError
from etl.extract.service_model import inspect_operation, model_session
from etl.model import Dataset
from etl.transform.batches import flatten
from etl.transform.schema import layout_of

RECORD_IDS = ["a", "b"]


NUMBERS = itertools.count()


def dataset(service, operation, *key, **rest):
    """Return a dataset whose name no other has: a source knows each by its name."""
    return Dataset(name=f"items{next(NUMBERS)}", service=service, operation=operation, key=key, **rest)


USERS = dataset("iam", "list_users", "user_id")
ROLES = dataset("iam", "list_roles", "role_id")
VOLUMES = dataset("ec2", "describe_volumes", "volume_id")
INSTANCES = dataset("ec2", "describe_instances", "instance_id", result_key="Reservations[].Instances[]")
ZONES = dataset("route53", "list_hosted_zones", "id")
RECORD_SETS = dataset("route53", "list_resource_record_sets", "name", parameters={"HostedZoneId": "Z1"})
VERSIONS = dataset("s3", "list_object_versions", "version_id", parameters={"Bucket": "b"})
MARKERS = dataset("s3", "list_object_versions", "version_id", parameters={"Bucket": "b"}, result_key="DeleteMarkers")
TABLES = dataset("dynamodb", "list_tables", "value")
STREAMS = dataset("kinesis", "list_streams", "value")
QUEUES = dataset("sqs", "list_queues", "value", allow_missing_list=True)
CLUSTERS = dataset("eks", "list_clusters", "value")
ALARMS = dataset("cloudwatch", "describe_alarms", "alarm_arn", allow_missing_list=True)
BUSES = dataset("eventbridgev2", "list_event_buses", "event_bus_arn")


# Bodies


def xml(name, inside, *, wrapped=True, **rest):
    """Return an answer of the query protocol: records as they are, further members of the result by name."""
    members = "".join(f"<{tag}>{text}</{tag}>" for tag, text in rest.items())
    result = f"<{name}Result>{inside}{members}</{name}Result>" if wrapped else inside + members
    return f'<{name}Response xmlns="urn:x">{result}</{name}Response>'.encode()


def users(*ids, created="2026-11-20T02:00:00Z", **rest):
    items = "".join(f"<member><UserId>{i}</UserId><CreateDate>{created}</CreateDate></member>" for i in ids)
    return xml("ListUsers", f"<Users>{items}</Users>", **rest)


def volumes(*ids, **rest):
    items = "".join(f"<item><volumeId>{i}</volumeId></item>" for i in ids)
    return xml("DescribeVolumes", f"<volumeSet>{items}</volumeSet>", wrapped=False, **rest)


def instances(*reservations, **rest):
    sets = ("".join(f"<item><instanceId>{i}</instanceId></item>" for i in ids) for ids in reservations)
    items = "".join(f"<item><instancesSet>{inside}</instancesSet></item>" for inside in sets)
    return xml("DescribeInstances", f"<reservationSet>{items}</reservationSet>", wrapped=False, **rest)


def zones(*ids, **rest):
    items = "".join(f"<HostedZone><Id>{i}</Id></HostedZone>" for i in ids)
    return xml("ListHostedZones", f"<HostedZones>{items}</HostedZones>", wrapped=False, **rest)


def versions(*ids, markers=(), **rest):
    items = "".join(f"<Version><VersionId>{i}</VersionId></Version>" for i in ids)
    items += "".join(f"<DeleteMarker><VersionId>{i}</VersionId></DeleteMarker>" for i in markers)
    members = "".join(f"<{tag}>{text}</{tag}>" for tag, text in {"Name": "b", **rest}.items())
    return f'<ListVersionsResult xmlns="urn:x">{members}{items}</ListVersionsResult>'.encode()


def as_json(**members):
    return json.dumps(members).encode()


class Instant(float):
    """Seconds since the epoch, for `cbor`."""


def cbor(value):
    """Return a value in CBOR. Source: RFC 8949, section 3."""

    def head(major, number):
        return bytes([major << 5 | 27]) + struct.pack(">Q", number)

    match value:
        case None:
            return b"\xf6"
        case bool():
            return b"\xf5" if value else b"\xf4"
        case Instant():
            return b"\xc1\xfb" + struct.pack(">d", value)
        case int():
            return head(0, value)
        case float():
            return b"\xfb" + struct.pack(">d", value)
        case str():
            return head(3, len(value.encode())) + value.encode()
        case list():
            return head(4, len(value)) + b"".join(map(cbor, value))
        case dict():
            return head(5, len(value)) + b"".join(cbor(name) + cbor(inner) for name, inner in value.items())


def buses(*ids, **rest):
    return cbor({"EventBuses": [{"EventBusArn": i} for i in ids], **rest})


PAGES = {
    "query": (USERS, users(*RECORD_IDS)),
    "ec2": (VOLUMES, volumes(*RECORD_IDS)),
    "ec2, nested": (INSTANCES, instances(["a"], [], ["b"])),
    "rest-xml": (ZONES, zones(*RECORD_IDS)),
    "rest-xml, flat": (VERSIONS, versions(*RECORD_IDS, markers=["c"])),
    "rest-xml, second list": (MARKERS, versions("c", markers=RECORD_IDS)),
    "json": (TABLES, as_json(TableNames=RECORD_IDS)),
    "json, list may be missing": (QUEUES, as_json(QueueUrls=RECORD_IDS)),
    "rest-json": (CLUSTERS, as_json(clusters=RECORD_IDS)),
    "cbor": (BUSES, buses(*RECORD_IDS)),
}
PROTOCOLS = pytest.mark.parametrize("protocol", PAGES)


# The server


def reply(body, length=None):
    # Without this header botocore does not take the answer for one of the protocol.
    return http(body, length=length, smithy_protocol="rpc-v2-cbor")


@pytest.fixture
def answers(answers):
    """Return a function that says what is answered: bodies, or whole answers."""
    return lambda *queue: answers(*(body if body.startswith(b"HTTP/") else reply(body) for body in queue))


def part_of(chosen):
    return part(dataset=chosen.name, parents=chosen.fixed_parents)


def fetch(source, chosen, token=None, most=None):
    source.operation(chosen)
    return source.fetch_page(chosen, part_of(chosen), 1, token, most)


def flat(source, chosen, *pages):
    """Return the rows and the rejects of pages."""
    operation = source.operation(chosen)
    found = list(flatten(layout_of(chosen, operation), snapshot(chosen, operation), part_of(chosen), pages))
    rows = [row for one in found for row in one.tables[chosen.name].to_pylist()]
    return rows, [row for one in found for row in one.rejects.to_pylist()]


def ids(source, chosen, *pages):
    rows, rejects = flat(source, chosen, *pages)
    assert rejects == []
    return [row[chosen.key[0]] for row in rows]


# What is a page


@PROTOCOLS
def test_a_page_of_any_protocol_is_read(protocol, source, answers):
    chosen, body = PAGES[protocol]
    answers(body)
    page = fetch(source, chosen)
    assert ids(source, chosen, page) == RECORD_IDS
    assert (page.records, page.kept, page.next_starting_token) == (2, 2, None)


NO_PAGES = {
    "HTML": b"<!DOCTYPE html><html><body>Welcome to the hotel</body></html>",
    "HTML that is XML": b"<html><body>Welcome to the hotel</body></html>",
    "nothing": b"",
    "white space": b" \n",
    "text": b"hello",
    "a list": b"[]",
    "JSON null": b"null",
    "CBOR list": cbor([]),
    "CBOR null": cbor(None),
    "an error": b"<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>",
    "another operation's XML": xml("ListGroups", "<Groups></Groups>"),
    "another service's XML": b"<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>",
    "another operation's JSON": as_json(functions=[]),
    "another operation's CBOR": cbor({"Things": []}),
    "XML without anything": b"<x/>",
}


@pytest.mark.parametrize("what", NO_PAGES)
@PROTOCOLS
def test_fault_1_what_is_no_page_is_repeated_and_never_the_last_one(protocol, what, source, patient, answers):
    chosen, good = PAGES[protocol]
    answers(NO_PAGES[what])
    with pytest.raises(TransientSourceError, match=r"^items\d+\[.*page 1: "):
        fetch(source, chosen)
    answers(NO_PAGES[what], good)
    page = fetch(patient, chosen)
    assert (ids(patient, chosen, page), page.retries) == (RECORD_IDS, 1)


@PROTOCOLS
def test_fault_2_a_body_that_ends_early_is_no_page(protocol, source, answers):
    """Whether Content-Length tells or not; botocore no longer looks at it."""
    chosen, good = PAGES[protocol]
    whole = reply(good)
    for body in (whole[:-3], reply(good[:-3]), reply(good[: len(good) // 2]), reply(good[:1])):
        answers(body)
        with pytest.raises(TransientSourceError):
            fetch(source, chosen)


@pytest.mark.parametrize(
    ("chosen", "body"),
    [
        (TABLES, as_json(TableNames=None)),
        (TABLES, as_json(LastEvaluatedTableName="x")),
        (TABLES, as_json(TableNames=3)),
        (TABLES, as_json(TableNames=[], LastEvaluatedTableName="x").replace(b"[]", b"[" * 2000 + b"]" * 2000)),
        (CLUSTERS, as_json(nextToken="x")),
        (BUSES, cbor({"NextToken": "x"})),
        (BUSES, cbor({"EventBuses": None})),
        (BUSES, cbor({"EventBuses": 3})),
        (BUSES, cbor({"EventBuses": ["x"]})),
        (ALARMS, as_json(MetricAlarms=[3])),
        (ALARMS, as_json(MetricAlarms={"a": 1})),
        (VOLUMES, volumes("a").replace(b"</volumeId>", b"</volumeId><size>large</size>")),
    ],
)
def test_fault_1_a_list_that_is_missing_or_of_wrong_types_is_no_page(chosen, body, source, answers):
    """What botocore's parsers raise then is whatever Python does."""
    answers(body)
    with pytest.raises(TransientSourceError):
        fetch(source, chosen)


@pytest.mark.parametrize("chosen", [USERS, VOLUMES, INSTANCES, ZONES, VERSIONS, MARKERS, QUEUES])
def test_an_empty_list_may_be_left_out_where_the_protocol_or_the_dataset_says_so(chosen, source, answers):
    answers(
        {
            "iam": xml("ListUsers", "", IsTruncated="false"),
            "ec2": xml("DescribeVolumes" if chosen is VOLUMES else "DescribeInstances", "", wrapped=False),
            "route53": xml("ListHostedZones", "", wrapped=False, IsTruncated="false"),
            "s3": versions(),
            "sqs": b"{}",
        }[chosen.service]
    )
    page = fetch(source, chosen)
    assert (page.records, page.next_starting_token) == (0, None)


def test_fault_1_nobody_knows_the_account_where_sts_answers_with_something_else(server, answers):
    for body in (b"<html/>", b"", xml("GetCallerIdentity", "")):
        answers(body)
        with pytest.raises(ConfigError, match=r"^account: http\S+ has no STS: .*; set source\.account_id"):
            _ = stopped_source_at(server.url, account_id=None).account_id


# Values


SOON = [{"AlarmArn": "a", "StateUpdatedTimestamp": "soon"}, {"AlarmArn": "b", "StateUpdatedTimestamp": 1763604000}]
LATER = [{"EventBusArn": "a", "CreationTime": "soon"}, {"EventBusArn": "b", "CreationTime": Instant(1763604000)}]


@pytest.mark.parametrize(
    ("chosen", "body", "column"),
    [
        (USERS, users("a", "b").replace(b"2026-11-20T02:00:00Z", b"soon", 1), "create_date"),
        (ALARMS, as_json(MetricAlarms=SOON), "state_updated_timestamp"),
        (BUSES, cbor({"EventBuses": LATER}), "creation_time"),
    ],
)
def test_fault_25_a_bad_timestamp_keeps_only_its_record_back(chosen, body, column, source, answers):
    answers(body)
    rows, (reject,) = flat(source, chosen, fetch(source, chosen))
    assert [row[chosen.key[0]] for row in rows] == ["b"]
    assert rows[0][column].tzinfo is not None
    assert "'soon'; expected ISO-8601" in reject["reason"]


def test_text_that_botocore_decodes_is_text_again(source, answers):
    """boto3 turns IAM's policies into dicts; the model says that they are texts."""
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow"}]}
    inside = f"<RoleId>a</RoleId><AssumeRolePolicyDocument>{json.dumps(policy)}</AssumeRolePolicyDocument>"
    answers(xml("ListRoles", f"<Roles><member>{inside}</member></Roles>"))
    ((row,), rejects) = flat(source, ROLES, fetch(source, ROLES))
    assert json.loads(row["assume_role_policy_document"]) == policy
    assert rejects == []


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1.5"])
def test_numbers_that_json_has_not_stay_what_they_are(number, source, answers):
    alarm = {"AlarmArn": "a", "Threshold": float(number)}
    answers(json.dumps({"MetricAlarms": [alarm]}).encode())
    ((row,), rejects) = flat(source, ALARMS, fetch(source, ALARMS))
    assert (str(row["threshold"]), rejects) == (number, [])


def test_members_that_the_model_does_not_know_are_lost_on_this_path(source, answers):
    """As in boto3 itself; docs/other-services.md says so."""
    answers(as_json(MetricAlarms=[{"AlarmArn": "a", "Brand": "new"}]))
    page = fetch(source, ALARMS)
    assert json.loads(page.body) == {"records": [{"AlarmArn": "a"}]}


# Tokens


def test_several_tokens_are_all_sent_again(source, answers, server):
    answers(versions("a", IsTruncated="true", NextKeyMarker="k &amp;+ä", NextVersionIdMarker="v/1"), versions("b"))
    first = fetch(source, VERSIONS)
    second = fetch(source, VERSIONS, first.next_starting_token)
    assert ids(source, VERSIONS, first, second) == RECORD_IDS
    assert second.next_starting_token is None
    sent = server.sent[1]
    assert (sent["key-marker"], sent["version-id-marker"]) == ("k &+ä", "v/1")


def test_tokens_that_are_absent_are_not_sent(source, answers, server):
    body = xml(
        "ListResourceRecordSets", "<ResourceRecordSets/>", wrapped=False, IsTruncated="true", NextRecordName="n",
        NextRecordType="A",
    )  # fmt: skip
    answers(body, body.replace(b"true", b"false"))
    first = fetch(source, RECORD_SETS)
    second = fetch(source, RECORD_SETS, first.next_starting_token)
    assert second.next_starting_token is None
    assert server.sent == [{}, {"name": "n", "type": "A"}]


def test_token_that_is_no_text_is_carried_as_it_is(source, answers, server):
    """DynamoDB's is a key: a map of typed values."""
    scan = dataset("dynamodb", "scan", "value", parameters={"TableName": "t"})
    source._operations[scan.name] = inspect_operation(model_session(), "dynamodb", "scan")
    key = {"id": {"S": "ä"}, "raw": {"B": "AP8="}, "n": {"N": "1"}}
    answers(as_json(Items=[{"id": {"S": "x"}}], LastEvaluatedKey=key), as_json(Items=[]))
    first = fetch(source, scan)
    second = fetch(source, scan, first.next_starting_token)
    assert [request.get("ExclusiveStartKey") for request in server.sent] == [None, key]
    assert second.next_starting_token is None


@pytest.mark.parametrize("token", ["None", "a___2", "&=+/%", "x" * 8192, "WzFd"])
@PROTOCOLS
def test_fault_16_hostile_tokens_are_carried_verbatim(protocol, token, source, answers, server):
    """Botocore drops the token "None", and would begin again for ever."""
    chosen, _ = PAGES[protocol]
    if chosen.service == "eventbridgev2":
        answers(buses("a", NextToken=token))
        page = fetch(source, chosen)
        assert TokenDecoder().decode(page.next_starting_token) == {"NextToken": token}
        return
    escaped = token.replace("&", "&amp;")
    answers(
        {
            "iam": users("a", IsTruncated="true", Marker=escaped),
            "ec2": volumes("a", nextToken=escaped) if chosen is VOLUMES else instances(["a"], nextToken=escaped),
            "route53": zones("a", IsTruncated="true", NextMarker=escaped),
            "s3": versions("a", markers=["a"], IsTruncated="true", NextKeyMarker=escaped),
            "dynamodb": as_json(TableNames=["a"], LastEvaluatedTableName=token),
            "sqs": as_json(QueueUrls=["a"], NextToken=token),
            "eks": as_json(clusters=["a"], nextToken=token),
        }[chosen.service]
    )
    first = fetch(source, chosen)
    second = fetch(source, chosen, first.next_starting_token)
    before, after = server.sent
    assert set(after.values()) - set(before.values()) == {token}
    assert ids(source, chosen, first, second) == ["a", "a"]


@pytest.mark.parametrize(
    ("chosen", "more", "done"),
    [
        (USERS, users("a", IsTruncated="true"), users("a", IsTruncated="false", Marker="left over")),
        (ZONES, zones("a", IsTruncated="true"), zones("a", IsTruncated="false", NextMarker="left over")),
        (VERSIONS, versions("a", IsTruncated="true"), versions("a", IsTruncated="false", NextKeyMarker="left over")),
        (
            STREAMS,
            as_json(StreamNames=["a"], HasMoreStreams=True),
            as_json(StreamNames=["a"], HasMoreStreams=False, NextToken="left over"),
        ),
    ],
)
def test_a_page_that_promises_more_and_gives_no_token_is_not_the_last_one(chosen, more, done, source, answers):
    """Botocore's paginator ends there, and the listing would be called complete."""
    answers(more)
    with pytest.raises(TransientSourceError, match="more follows, and there is no token"):
        fetch(source, chosen)
    answers(done)
    assert fetch(source, chosen).next_starting_token is None


def test_a_service_that_never_gives_the_page_ends_as_an_error_not_as_the_last_page(server, answers):
    answers(b"{}")
    with pytest.raises(TransientSourceError, match="'TableNames' is missing; expected a list, which may be empty"):
        fetch(source_at(server.url, timeout="0.001s"), TABLES)


def test_fault_1_equal_answers_without_a_list_end_the_repetition_and_name_the_setting(server, answers):
    """A service that leaves empty lists out would be asked until the time is over, every night."""
    answers(b"{}")
    with pytest.raises(TransientSourceError, match=r"set `allow_missing_list: true` .*; 4 answers were the same"):
        fetch(source_at(server.url), TABLES)


# MaxItems


LISTINGS = {
    "query": (USERS, lambda i, token: users(*i, IsTruncated="true" if token else "false", **token), "Marker"),
    "json": (TABLES, lambda i, token: as_json(TableNames=list(i), **token), "LastEvaluatedTableName"),
    "rest-xml": (
        VERSIONS,
        lambda i, token: versions(*i, markers="xyz", IsTruncated="true" if token else "false", **token),
        "NextKeyMarker",
    ),
    "cbor": (BUSES, lambda i, token: buses(*i, **token), "NextToken"),
}


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("protocol", LISTINGS)
def test_walk_that_is_cut_after_any_number_of_records_goes_on_with_the_next_one(protocol, most, source, answers):
    """In the midst of a page, botocore's starting token says how many of its records are known already."""
    chosen, body, name = LISTINGS[protocol]
    listing = {None: ("abc", "second"), "second": ("def", "third"), "third": ("g", None)}
    found, token, rounds = [], None, 0
    while token is not None or not rounds:
        rounds, left = rounds + 1, most
        while left > 0 and (token is not None or not found):
            sent = TokenDecoder().decode(token) if token else {}
            at = next((value for key, value in sent.items() if key != "boto_truncate_amount" and value), None)
            names, following = listing[at]
            answers(body(names, {name: following} if following else {}))
            page = fetch(source, chosen, token, left)
            found += ids(source, chosen, page)
            left, token = left - page.kept, page.next_starting_token
        assert left >= 0, "more than was asked for"
    assert found == list("abcdefg")


def test_cut_of_a_list_that_botocore_does_not_count_is_refused(source, answers):
    answers(versions("a", markers="bc"))
    with pytest.raises(ConfigError, match="max_items counts another list than 'DeleteMarkers'"):
        fetch(source, MARKERS, None, 1)


def test_list_that_botocore_does_not_count_is_whole_on_every_page(source, answers):
    """From a starting token on, botocore's iterator empties every list of the first page but the one that it counts."""
    answers(versions("x", markers="ab", IsTruncated="true", NextKeyMarker="k"))
    first = fetch(source, MARKERS)
    answers(versions("y", markers="cd"))
    second = fetch(source, MARKERS, first.next_starting_token)
    assert ids(source, MARKERS, first, second) == list("abcd")


def test_starting_token_of_the_aws_cli_that_leads_into_a_page_is_followed(source, answers, server):
    answers(as_json(TableNames=["a", "b", "c"]))
    token = TokenEncoder().encode({"ExclusiveStartTableName": "key", "boto_truncate_amount": 2})
    page = fetch(source, TABLES, token)
    assert ids(source, TABLES, page) == ["c"]
    assert server.sent == [{"ExclusiveStartTableName": "key"}]


def test_refused_token_is_told_from_a_refused_request(source, answers):
    """The same request without a token decides."""
    refusal = b'{"__type": "ValidationException", "message": "no"}'
    refused = reply(refusal).replace(b"200 OK", b"400 Bad Request")
    token = TokenEncoder().encode({"ExclusiveStartTableName": "key"})
    answers(refused, as_json(TableNames=[]))
    with pytest.raises(SourceError, match="it has expired"):
        fetch(source, TABLES, token)
    answers(refused)
    with pytest.raises(SourceError, match="then the same request without a token"):
        fetch(source, TABLES, token)


def test_request_that_botocore_refuses_is_refused_with_what_is_wrong(source, answers):
    answers(as_json(clusters=[]))
    mistaken = dataset("eks", "list_clusters", "value", parameters={"include": "all"})
    with pytest.raises(
        ConfigError, match=r"page 1: Invalid type for parameter include, value: all, .* check the `param"
    ):
        fetch(source, mistaken)
