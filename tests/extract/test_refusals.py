"""Refusals: because of a page token, because of keys, because there were too many requests; and what they may say."""

import json
import re

import botocore.exceptions as boto
import pytest
from botocore.loaders import create_loader
from botocore.paginate import TokenEncoder
from botocore.retries import standard
from support.answers import Answers, http, source_at, stopped_source_at
from support.shapes import part

from etl.errors import (
    ConfigError,
    CredentialsError,
    EtlError,
    PageTokenError,
    SourceError,
    TokenRejectedError,
    TransientSourceError,
)
from etl.extract.datasets import builtin_datasets
from etl.extract.service_model import model_session
from etl.extract.vendor_errors import translate
from etl.model import Dataset

SESSIONS = builtin_datasets()["streaming_sessions"]
SLICE = part("studio-1", dataset="streaming_sessions")


def sessions(*ids, **rest):
    return http(json.dumps({"sessions": [{"sessionId": name} for name in ids], **rest}).encode())


def error(status, code, message="no"):
    return http(json.dumps({"message": message, "code": code}).encode(), f"{status} X", x_amzn_ErrorType=code)


def token_for(token):
    return TokenEncoder().encode({"nextToken": token})


def fetch(source, token=None, number=1):
    return source.fetch_page(SESSIONS, SLICE, number, token, None)


# Because of a page token


REFUSED_TOKENS = [
    "ValidationException", "InvalidNextTokenException", "ExpiredNextTokenException", "InvalidPaginationTokenException",
    "InvalidMarkerException", "InvalidMarker", "InvalidNextToken", "InvalidPaginationToken", "ExpiredPaginationToken",
    "InvalidCursorException", "InvalidToken", "InvalidArgument", "InvalidInputException", "PaginationException",
    "ResourceNotFoundException", "SomethingNew",
]  # fmt: skip


@pytest.mark.parametrize("status", [400, 404, 410])
@pytest.mark.parametrize("code", REFUSED_TOKENS)
def test_fault_9_refused_token_that_is_not_needed_has_expired_whatever_the_service_calls_it(
    answers, source, code, status
):
    server = answers(error(status, code), sessions("a"))
    with pytest.raises(TokenRejectedError, match="page 5: the token is refused, the request without it works"):
        fetch(source, token_for("old"), number=5)
    assert server.sent == [{"nextToken": "old"}, {}]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "AccessDeniedException"),
        (400, "AccessDeniedException"),
        (400, "UnauthorizedOperation"),
        (401, "Whatever"),
        (402, "ServiceQuotaExceededException"),
        (429, "TooManyRequestsException"),
        (400, "ThrottlingException"),
        (503, "Unavailable"),
        (403, "SignatureDoesNotMatch"),
    ],
)
def test_fault_9_what_is_not_said_of_the_token_asks_for_no_first_page(answers, source, status, code):
    server = answers(error(status, code), sessions("a"))
    with pytest.raises(EtlError, match=code) as caught:
        fetch(source, token_for("t1"))
    assert not isinstance(caught.value, PageTokenError)
    assert server.sent == [{"nextToken": "t1"}]


def test_fault_9_a_page_token_that_is_called_expired_as_credentials_are_is_found_out(answers, patient):
    """After credentials were loaded once more, the first page decides."""
    refused = error(403, "ExpiredTokenException")
    server = answers(refused, refused, sessions("a"))
    with pytest.raises(TokenRejectedError):
        fetch(patient, token_for("old"))
    assert server.sent == [{"nextToken": "old"}, {"nextToken": "old"}, {}]


@pytest.mark.parametrize(
    ("first_page", "expected"),
    [
        (error(403, "AccessDeniedException"), SourceError),
        (error(429, "ThrottlingException"), TransientSourceError),
        (http(b"<html>"), TransientSourceError),
        (b"", TransientSourceError),
    ],
    ids=["denied", "throttled", "no page", "no answer"],
)
def test_fault_9_first_page_that_fails_costs_only_its_slice(answers, source, first_page, expected):
    answers(error(400, "InvalidMarkerException"), first_page)
    with pytest.raises(expected, match="page 5, then the same request without a token: "):
        fetch(source, token_for("old"), number=5)


def test_fault_9_a_dataset_of_another_list_than_the_first_walks_anew_too(answers, source):
    """Botocore's paginator counts the first list only: the probe must not count."""
    markers = Dataset(
        name="markers", service="s3", operation="list_object_versions", key=("version_id",),
        result_key="DeleteMarkers", parameters={"Bucket": "b"},
    )  # fmt: skip
    source.operation(markers)
    refusal = http(b"<Error><Code>InvalidArgument</Code></Error>", "400 Bad Request")
    answers(refusal, http(b"<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>"))
    token = TokenEncoder().encode({"KeyMarker": "k", "VersionIdMarker": "v"})
    with pytest.raises(TokenRejectedError):
        source.fetch_page(markers, part(dataset="markers", parents={"Bucket": "b"}), 2, token, None)


# Because of keys


@pytest.mark.parametrize("code", ["UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId"])
def test_fault_7_keys_that_are_not_known_any_more_are_loaded_once_more(answers, patient, code):
    server = answers(sessions("a"), error(403, code), sessions("b"))
    fetch(patient)
    assert fetch(patient, token_for("t1")).retries == 1
    assert server.sent[1:] == [{"nextToken": "t1"}] * 2
    server.paths.clear()
    answers(error(401, code))
    with pytest.raises(CredentialsError, match="not known there: use other ones"):
        fetch(patient, token_for("t1"))
    assert len(server.paths) == 2


@pytest.mark.parametrize("code", ["UnrecognizedClientException", "ExpiredTokenException"])
def test_fault_7_keys_that_served_for_no_page_are_a_matter_of_the_operator(answers, server, code):
    answers(error(403, code))
    with pytest.raises(ConfigError, match=code):
        fetch(source_at(server.url))


# Because there were too many requests


def codes_that_botocore_repeats():
    former = json.dumps(create_loader().load_data("_retry"))
    return sorted(
        {*standard.ThrottledRetryableChecker._THROTTLED_ERROR_CODES}
        | {*standard.TransientRetryableChecker._TRANSIENT_ERROR_CODES}
        | {*re.findall(r'"service_error_code": "(\w+)"', former)}
    )


def answered(code, operation=None):
    response = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return translate(boto.ClientError(response, "Any"), "place", "any:Any", operation)


@pytest.mark.parametrize("code", codes_that_botocore_repeats())
def test_fault_3_whatever_botocore_would_repeat_passes(code):
    assert type(answered(code)) is TransientSourceError


def test_fault_3_what_a_service_model_says_may_be_repeated_passes():
    operation = model_session().get_service_model("grafana").operation_model("DescribeWorkspace")
    codes = [shape.name for shape in operation.error_shapes if "retryable" in shape.metadata]
    assert "InternalServerException" in codes
    assert {type(answered(code, operation)) for code in codes} == {TransientSourceError}
    assert type(answered("InternalServerException")) is SourceError


# What messages say


def test_fault_16_a_page_token_in_a_message_is_a_hash(answers, source):
    token = "a b/c+" + "long" * 2500
    for reply in (error(400, "ThrottlingException", f"{token}, {json.dumps(token)}: too fast"), b""):
        answers(reply)
        with pytest.raises(TransientSourceError, match=r"sha256 [0-9a-f]{12}") as caught:
            fetch(source, token_for(token))
        assert "longlong" not in str(caught.value)
        assert len(str(caught.value)) < 400
    answers(error(400, "ThrottlingException", f"another token {'other' * 2000}"))
    with pytest.raises(TransientSourceError, match="10000 characters, sha256") as caught:
        fetch(source, token_for("t1"))
    assert len(str(caught.value)) < 400


def test_no_host_prefix_is_put_before_an_endpoint_that_is_given():
    """Nobody resolves `api.127.0.0.1`."""
    assets = Dataset(
        name="assets", service="iotsitewise", operation="list_assets", key=("id",), parameters={"filter": "ALL"}
    )
    with Answers(http(b'{"assetSummaries": []}')) as server:
        source = stopped_source_at(server.url)
        source.operation(assets)
        assert source.fetch_page(assets, part(dataset="assets", parents={}), 1, None, None).records == 0
