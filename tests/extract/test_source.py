"""One page of one operation: what is a page and what is not, and what every error of botocore means to us.

The real boto3 client talks to a socket on loopback that answers with exactly the bytes that a test says.
"""

import gzip
import inspect
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from email.utils import format_datetime
from urllib.parse import urlsplit

import botocore.exceptions as boto
import pytest
from botocore.paginate import TokenDecoder, TokenEncoder
from botocore.parsers import ResponseParserError
from hypothesis import given, settings
from hypothesis import strategies as st
from support.answers import KEY, http, source_at
from support.shapes import ARRIVED, operation, part

from etl.config import SourceSettings
from etl.errors import (
    ConfigError,
    CredentialsError,
    GoneError,
    PageTokenError,
    SourceError,
    TokenRejectedError,
    TransientSourceError,
)
from etl.extract import vendor_errors
from etl.extract.clients import Endpoint
from etl.extract.datasets import builtin_datasets
from etl.extract.parsed import MalformedPageError
from etl.extract.raw import raw_page_hook
from etl.extract.source import Source
from etl.extract.tokens import check_starting_token
from etl.extract.vendor_errors import translate

SESSIONS = builtin_datasets()["streaming_sessions"]
SLICE = part("studio-1", dataset="streaming_sessions")


def sessions(*ids, **rest):
    return json.dumps({"sessions": [{"sessionId": name} for name in ids], **rest}).encode()


def error(status, code, message="no", **headers):
    body = json.dumps({"message": message, "code": code}).encode()
    return http(body, f"{status} X", x_amzn_ErrorType=code, **headers)


@pytest.fixture(scope="module")
def source(source):
    source.operation(SESSIONS)
    return source


@pytest.fixture(scope="module")
def patient(patient):
    patient.operation(SESSIONS)
    return patient


def fetch(source, token=None, most=None, number=1):
    return source.fetch_page(SESSIONS, SLICE, number, token, most)


def token_for(token, **rest):
    return TokenEncoder().encode({"nextToken": token, **rest})


# What is a page


def test_page_keeps_its_body_as_it_arrived(answers, source):
    body = b'{ "nextToken":null,\n "sessions" : [ {"sessionId":"a" , "new": 1.50} ] }'
    server = answers(http(body))
    page = fetch(source, number=4)
    assert page.body == body
    assert (page.number, page.records, page.first, page.stop, page.kept) == (4, 1, 0, 1, 1)
    assert (page.next_starting_token, page.request_id, page.retries) == (None, "request-1", 0)
    assert page.received_at.utcoffset().total_seconds() == 0
    assert urlsplit(server.paths[0]).path == "/2020-08-01/studios/studio-1/streaming-sessions"


def test_parameters_of_the_slice_are_sent(answers, source):
    server = answers(http(sessions()))
    source.fetch_page(SESSIONS, part("s", dataset="streaming_sessions", filters={"createdBy": "a&b=c"}), 1, None, None)
    assert server.sent == [{"createdBy": "a&b=c"}]


GOOD = {
    "no records": (sessions(), 0),
    "lone surrogates": (b'{"sessions": [{"sessionId": "\\ud800"}], "nextToken": null}', 1),
    "lone surrogate elsewhere": (b'{"sessions": [{}], "note": "\\udc00"}', 1),
    "unknown members": (sessions("a", extra={"deep": [1, None]}), 1),
    "records of other types": (b'{"sessions": [1, null, "x", [], {}]}', 5),
    "numbers that no type holds": (b'{"sessions": [{"n": 1e400}, {"n": 99999999999999999999999999}]}', 2),
    "white space": (b'\n\t {"sessions" :\r\n[ ] }\n ', 0),
    "escaped names": (b'{"sess\\u0069ons": [{}]}', 1),
}


@pytest.mark.parametrize("name", GOOD)
def test_body_is_a_page_whatever_its_records_are(answers, source, name):
    body, records = GOOD[name]
    answers(http(body))
    page = fetch(source)
    assert (page.body, page.records) == (body, records)


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "202 Accepted", "206 Partial Content"])
def test_any_status_that_is_no_error_needs_the_same_proof(answers, source, status):
    answers(http(sessions("a"), status))
    assert fetch(source).records == 1
    answers(http(b"{}", status))
    with pytest.raises(TransientSourceError):
        fetch(source)


def test_chunked_body_is_a_page_too(answers, source):
    body = sessions("a", "b")
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    answers(http(chunks, length="none", Transfer_Encoding="chunked"))
    assert fetch(source).body == body


WHOLE = sessions("a", "b", nextToken="more")
BAD = {
    "HTML": http(b"<html><body>Please sign in</body></html>", Content_Type="text/html"),
    "nothing": http(b""),
    "empty object": http(b"{}"),
    "null list": http(b'{"sessions": null}'),
    "list under another name": http(b'{"Sessions": []}'),
    "object for the list": http(b'{"sessions": {}}'),
    "text for the list": http(b'{"sessions": "[]"}'),
    "list at the top": http(b'[{"sessions": []}]'),
    "null at the top": http(b"null"),
    "number at the top": http(b"5"),
    "number as token": http(b'{"sessions": [], "nextToken": 5}'),
    "object as token": http(b'{"sessions": [], "nextToken": {}}'),
    "list as token beside a lone surrogate": http(b'{"sessions": ["\\ud800"], "nextToken": []}'),
    "half of the JSON": http(WHOLE[:-9]),
    "two pages in one": http(WHOLE + WHOLE),
    "rubbish behind": http(WHOLE + b"x"),
    "NaN": http(b'{"sessions": [NaN]}'),
    "Infinity": http(b'{"sessions": [-Infinity]}'),
    "invalid UTF-8": http(b'{"sessions": [{"sessionId": "\xff"}]}'),
    "overlong UTF-8": http(b'{"sessions": [{"sessionId": "\xc0\x80"}]}'),
    "surrogate in UTF-8": http(b'{"sessions": [{"sessionId": "\xed\xa0\x80"}]}'),
    "UTF-16": http(WHOLE.decode().encode("utf-16")),
    "byte order mark": http(b"\xef\xbb\xbf" + WHOLE),
    "control character": http(b'{"sessions": ["\x01"]}'),
    "nested without end": http(b'{"sessions": [' + b"[" * 100_000),
    "nested very deep": http(b'{"sessions": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}"),
    "shorter than its length": http(WHOLE, length=len(WHOLE) + 1),
    "whole JSON, shorter than its length": http(sessions(), length=len(sessions()) + 500),
    "cut by its length": http(WHOLE, length=len(WHOLE) - 1),
    "length that is none": http(WHOLE, length="many"),
    "no content": http(b"", "204 No Content"),
    "corrupt gzip": http(gzip.compress(WHOLE)[:-12] + b"x" * 12, Content_Encoding="gzip"),
    "gzip, which nobody asked for": http(gzip.compress(WHOLE), Content_Encoding="gzip"),
    "UTF-16 without a mark": http(WHOLE.decode().encode("utf-16-le")),
    "half of a chunk": http(b"ff\r\n" + WHOLE, length="none", Transfer_Encoding="chunked"),
    "no HTTP": b"hello\r\n\r\n",
    "no answer": b"",
}


@pytest.mark.parametrize("name", BAD)
def test_fault_1_2_answer_that_is_no_page_is_a_passing_error_that_names_the_page(answers, source, name):
    """Never an empty page: botocore alone would take most of these for the end of the listing."""
    answers(BAD[name])
    with pytest.raises(TransientSourceError, match=r"^streaming_sessions\[studioId='studio-1'\], page 7: "):
        fetch(source, number=7)


@pytest.mark.parametrize("name", ["HTML", "empty object", "shorter than its length", "corrupt gzip", "no content"])
def test_fault_1_2_malformed_page_is_asked_for_again_with_the_same_token(answers, patient, name):
    server = answers(BAD[name], BAD[name], http(WHOLE))
    page = fetch(patient, token_for("t1"))
    assert page.records == 2
    assert page.retries == 2
    assert server.sent == [{"nextToken": "t1"}] * 3


@pytest.mark.parametrize("body", [b'{"sessions": null}', b'{"nextToken": null, "more": {}}'])
def test_fault_1_equal_answers_without_a_list_end_the_repetition_and_name_the_setting(answers, patient, body):
    """A service that leaves empty lists out would be asked until the time is over, every night."""
    server = answers(http(body))
    with pytest.raises(
        TransientSourceError, match=r"page 7: .*set `allow_missing_list: true` .*; 4 answers were the same"
    ):
        fetch(patient, number=7)
    assert len(server.sent) == 4


def test_fault_1_different_answers_without_a_list_are_asked_for_again(answers, patient):
    server = answers(*(http(b'{"sessions": null, "n": %d}' % n) for n in range(5)), http(WHOLE))
    assert fetch(patient).records == 2
    assert len(server.sent) == 6


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["things", "nextToken", "x"]), inner),
    max_leaves=8,
)


def read(body):
    """Pass a body through the hook, as botocore would; return what the paginator then sees."""
    found = {}
    response = {"status_code": 200, "body": body, "headers": {"content-length": str(len(body))}}
    raw_page_hook(operation())(response_dict=response, customized_response_dict=found)
    assert response["body"] == b"{}"
    return found


@settings(deadline=None)
@given(JSON, st.booleans())
def test_body_is_a_page_if_and_only_if_it_is_an_object_with_the_list(value, ascii_only):
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    token = value.get("nextToken") if isinstance(value, dict) else None
    is_page = isinstance(value, dict) and isinstance(value.get("things"), list) and isinstance(token, str | None)
    if not is_page:
        with pytest.raises(MalformedPageError):
            read(body)
        return
    found = read(body)
    assert found["things"] == list(range(len(value["things"])))
    assert found.get("nextToken") == (token or None)


@settings(deadline=None)
@given(st.data())
def test_fault_2_no_part_of_a_page_is_a_page(data):
    body = json.dumps({"things": [{"a": "é"}, 2.5], "nextToken": "t"}, ensure_ascii=False).encode()
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(MalformedPageError):
        read(body[:cut])


def test_error_status_is_left_to_botocore():
    response = {"status_code": 301, "body": b"<html>", "headers": {}}
    raw_page_hook(operation())(response_dict=response, customized_response_dict={})
    assert response["body"] == b"<html>"


# Tokens


TOKENS = pytest.mark.parametrize(
    "token", ["t1", "None", "a___2", "bm9uZQ==", "NQ==", "x" * 8192, "&=+/% ?#", "é\U0001f3ac", '{"a": 1}', " ", "0"]
)


@TOKENS
def test_fault_16_token_is_carried_verbatim(answers, source, token):
    server = answers(http(sessions("a", nextToken=token)), http(sessions("b")))
    following = fetch(source).next_starting_token
    assert check_starting_token(following) == following
    assert fetch(source, following).next_starting_token is None
    assert server.sent[1]["nextToken"] == token


@TOKENS
def test_fault_16_token_is_carried_verbatim_by_a_process_that_goes_on(answers, source, token):
    """It makes its first request with that token, so botocore's paginator gets it."""
    server = answers(http(sessions("b")))
    assert fetch(source, token_for(token)).next_starting_token is None
    assert server.sent == [{"nextToken": token}]


@pytest.mark.parametrize("rest", [{}, {"nextToken": None}, {"nextToken": ""}])
def test_fault_15_page_without_a_token_is_the_last(answers, source, rest):
    answers(http(sessions("a", **rest)))
    assert fetch(source).next_starting_token is None


def test_maximum_cuts_inside_a_page_and_the_token_leads_behind_the_cut(answers, source):
    server = answers(http(sessions(*"abcde", nextToken="t2")))
    first = fetch(source, token_for("t1"), 2)
    assert (first.records, first.first, first.stop) == (5, 0, 2)
    assert TokenDecoder().decode(first.next_starting_token) == {"nextToken": "t1", "boto_truncate_amount": 2}
    second = fetch(source, first.next_starting_token, 2)
    assert (second.records, second.first, second.stop) == (5, 2, 4)
    third = fetch(source, second.next_starting_token, 9)
    assert (third.records, third.first, third.stop) == (5, 4, 5)
    assert third.next_starting_token == token_for("t2")
    assert server.sent == [{"nextToken": "t1"}] * 3


def test_maximum_that_ends_with_the_page_leads_to_the_next_page(answers, source):
    answers(http(sessions("a", "b", nextToken="t2")))
    assert fetch(source, None, 2).next_starting_token == token_for("t2")


@pytest.mark.parametrize(
    "token",
    [token_for("x"), token_for("None"), token_for("x", boto_truncate_amount=3), TokenEncoder().encode({"a": b"\0"})],
)
def test_starting_token_in_botocores_encoding_is_accepted(token):
    assert check_starting_token(token) == token


@pytest.mark.parametrize(
    "token",
    [
        "None", "a___2", "x", "", " ", "null", "NQ==", "W10=", "e30=", "bnVsbA==", "é", "AAAA", token_for("x")[:-2],
        token_for("x") + "=", token_for("x") + "\n", "eyJhIjoxfQ", '{"nextToken": "x"}', "x" * 10_000,
    ],
)  # fmt: skip
def test_fault_16_service_token_given_as_a_starting_token_is_refused(token):
    """Of itself, botocore would guess: "None" starts again, "a___2" skips two records."""
    with pytest.raises(ConfigError, match=r"--starting-token: .* not a service's own nextToken"):
        check_starting_token(token)


@settings(deadline=None)
@given(st.text())
def test_no_text_is_taken_for_a_starting_token_that_botocore_reads_as_another(text):
    try:
        accepted = check_starting_token(text)
    except ConfigError:
        return
    assert TokenEncoder().encode(TokenDecoder().decode(accepted)) == text


# Refused tokens, credentials, throttling


@pytest.mark.parametrize("code", ["ValidationException", "InvalidNextTokenException"])
def test_fault_9_refused_token_that_is_not_needed_has_expired(answers, source, code):
    server = answers(error(400, code), http(sessions("a")))
    with pytest.raises(TokenRejectedError, match="page 5: the token is refused, the request without it works"):
        fetch(source, token_for("old"), number=5)
    assert server.sent == [{"nextToken": "old"}, {}]


def test_fault_9_request_that_fails_without_the_token_too_is_refused_for_good(answers, source):
    answers(error(400, "ValidationException", "studioId is no id"))
    with pytest.raises(SourceError, match=r"without a token: .* studioId is no id") as caught:
        fetch(source, token_for("old"))
    assert not isinstance(caught.value, PageTokenError)


def test_refused_request_without_a_token_is_not_repeated(answers, patient):
    server = answers(error(400, "ValidationException", "studioId is no id"))
    with pytest.raises(SourceError, match="check the parameters"):
        fetch(patient)
    assert len(server.paths) == 1


def test_fault_3_throttled_request_is_repeated_and_counted(answers, patient):
    server = answers(error(429, "ThrottlingException"), error(503, "Unavailable"), http(sessions("a")))
    assert fetch(patient).retries == 2
    assert len(server.paths) == 3


def test_fault_4_source_that_never_recovers_is_given_up_when_told_to_stop(answers, server):
    stop = threading.Event()
    source = source_at(server.url, stop)
    answers()

    def choose(_path):
        if len(server.paths) == 5:
            stop.set()
        return error(429, "ThrottlingException")

    server.choose = choose
    with pytest.raises(TransientSourceError, match="429 ThrottlingException"):
        fetch(source)
    assert len(server.paths) == 5


def test_fault_7_expired_credentials_are_renewed_once_and_not_for_ever(answers, patient):
    server = answers(error(403, "ExpiredTokenException"), http(sessions("a")))
    assert fetch(patient).retries == 1
    answers(error(403, "ExpiredTokenException"))
    server.paths.clear()
    stop = patient._patience._stop
    server.choose = lambda _path: (len(server.paths) > 1 and stop.set()) or error(403, "ExpiredTokenException")
    try:
        with pytest.raises(TransientSourceError, match="renew the credentials and run again"):
            fetch(patient)
    finally:
        stop.clear()
    assert len(server.paths) == 2


def test_threads_share_a_source(answers, source, server):
    answers()
    server.choose = lambda path: http(sessions(path.split("/")[3]))
    ids = [f"studio-{n}" for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        pages = list(
            pool.map(
                lambda name: source.fetch_page(SESSIONS, part(name, dataset="streaming_sessions"), 1, None, None), ids
            )
        )
    assert [page.body for page in pages] == [sessions(name) for name in ids]


def test_account_is_the_configured_one_or_that_of_the_credentials_or_that_of_sts(answers, server, monkeypatch):
    for name, value in (("ACCESS_KEY_ID", KEY[0]), ("SECRET_ACCESS_KEY", KEY[1]), ("ACCOUNT_ID", "2" * 12)):
        monkeypatch.setenv(f"AWS_{name}", value)
    assert Source(SourceSettings(), Endpoint(), threading.Event()).account_id == "2" * 12
    monkeypatch.delenv("AWS_ACCOUNT_ID")
    answers(
        http(
            b"<GetCallerIdentityResponse><GetCallerIdentityResult><Account>333333333333</Account>"
            b"</GetCallerIdentityResult></GetCallerIdentityResponse>"
        )
    )
    assert Source(SourceSettings(), Endpoint(server.url), threading.Event()).account_id == "3" * 12
    answers(http(b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>", "403 Forbidden"))
    with pytest.raises(SourceError, match="sts:GetCallerIdentity"):
        _ = Source(SourceSettings(), Endpoint(server.url), threading.Event()).account_id


# Every error of botocore

OPERATOR_MISTAKES = [
    "AliasConflictParameterError", "ConfigNotFound", "ConfigParseError", "EndpointResolutionError",
    "EndpointVariantError", "InfiniteLoopConfigError", "InvalidChecksumConfigError", "InvalidConfigError",
    "InvalidDefaultsMode", "InvalidEndpointConfigurationError", "InvalidEndpointDiscoveryConfigurationError",
    "InvalidIMDSEndpointError", "InvalidIMDSEndpointModeError", "InvalidMaxRetryAttemptsError",
    "InvalidProxiesConfigError", "InvalidRegionError", "InvalidRetryConfigurationError", "InvalidRetryModeError",
    "InvalidSTSRegionalEndpointsConfigError", "LoginAuthorizationCodeError", "LoginError",
    "LoginInsufficientPermissions", "LoginRefreshRequired", "LoginTokenLoadError", "MissingDependencyException",
    "MissingParametersError", "NoAuthTokenError", "NoCredentialsError", "NoRegionError", "ParamValidationError",
    "PartialCredentialsError", "ProfileNotFound", "RangeError", "SSOError", "SSOTokenLoadError",
    "ServiceNotInRegionError", "UnauthorizedSSOTokenError", "UnknownCredentialError", "UnknownEndpointError",
    "UnknownFIPSEndpointError", "UnknownKeyError", "UnknownParameterError", "UnknownRegionError",
    "UnknownServiceError", "UnknownTokenProviderError", "ValidationError",
]  # fmt: skip
PASSING = [
    "ChecksumError", "ConnectTimeoutError", "ConnectionClosedError", "ConnectionError",
    "CredentialRetrievalError", "EndpointConnectionError", "FlexibleChecksumError", "HTTPClientError",
    "IncompleteReadError", "MetadataRetrievalError", "ProxyConnectionError", "ReadTimeoutError",
    "RefreshWithMFAUnsupportedError", "ResponseStreamingError", "SSLError", "TokenRetrievalError", "WaiterError",
]  # fmt: skip
FOR_GOOD = [
    "ApiVersionNotFoundError", "AwsChunkedWrapperError", "BaseEndpointResolverError", "BotoCoreError",
    "CapacityNotAvailableError", "ClientError", "DataNotFoundError", "EndpointProviderError", "EventStreamError",
    "InvalidDNSNameError", "InvalidExpressionError", "InvalidHostLabelError", "InvalidS3AddressingStyleError",
    "InvalidS3UsEast1RegionalEndpointConfigError", "MD5UnavailableError", "MissingServiceIdError",
    "OperationNotPageableError", "PaginationError", "StubAssertionError", "StubResponseError",
    "UnStubbedResponseError", "UndefinedModelAttributeError", "UnknownClientMethodError",
    "UnknownEndpointResolutionBuiltInName", "UnknownServiceStyle", "UnknownSignatureVersionError",
    "UnseekableStreamError", "UnsupportedOutpostResourceError", "UnsupportedS3AccesspointConfigurationError",
    "UnsupportedS3ArnError", "UnsupportedS3ConfigurationError", "UnsupportedS3ControlArnError",
    "UnsupportedS3ControlConfigurationError", "UnsupportedServiceProtocolsError",
    "UnsupportedSignatureVersionError", "WaiterConfigError",
]  # fmt: skip


def botocore_errors():
    return {
        name: found
        for name, found in vars(boto).items()
        if inspect.isclass(found) and issubclass(found, Exception) and not issubclass(found, Warning)
        and found.__module__ == boto.__name__
    }  # fmt: skip


def test_every_error_of_botocore_has_a_deliberate_meaning():
    """A new one turns this red: decide whether the operator, time, or nobody can help, and add it to a list."""
    decided = [*OPERATOR_MISTAKES, *PASSING, *FOR_GOOD]
    assert sorted(decided) == sorted(set(decided))
    assert botocore_errors().keys() - {*decided} == set()
    assert {*decided} - botocore_errors().keys() == set()


@pytest.mark.parametrize("name", sorted(botocore_errors()))
def test_error_of_botocore_is_translated_as_decided(name):
    found = botocore_errors()[name]
    exc = found.__new__(found)
    Exception.__init__(exc, f"what {name} says\nand more")
    if isinstance(exc, boto.ClientError):
        exc.response = {}
    translated = translate(exc, "place", "nimble:ListStudios")
    expected = ConfigError if name in OPERATOR_MISTAKES else TransientSourceError if name in PASSING else SourceError
    assert type(translated) is expected
    assert str(translated).startswith("place: ")
    assert "and more" not in str(translated)


def test_errors_outside_the_tree_of_botocore_are_translated_too():
    assert type(translate(ResponseParserError("not XML"), "place", "a")) is TransientSourceError
    assert type(translate(ValueError("Bad starting token"), "place", "a")) is PageTokenError


def answered(status, code, headers=None, **rest):
    response = {
        "Error": {"Code": code, "Message": "said so"},
        "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "request-9", "HTTPHeaders": headers or {}},
    }
    return translate(boto.ClientError({**response, **rest}, "ListStudios"), "studios[x], page 3", "nimble:ListStudios")


@pytest.mark.parametrize(
    ("status", "code", "expected", "says"),
    [
        (429, "Whatever", TransientSourceError, ""),
        (400, "ThrottlingException", TransientSourceError, ""),
        (400, "RequestLimitExceeded", TransientSourceError, ""),
        (500, "InternalServerError", TransientSourceError, ""),
        (503, "SlowDown", TransientSourceError, ""),
        (403, "ExpiredToken", CredentialsError, "renew the credentials and run again to continue"),
        (403, "AccessDeniedException", SourceError, "the credentials need nimble:ListStudios: grant it"),
        (401, "UnauthorizedException", SourceError, "the credentials need nimble:ListStudios"),
        (402, "ServiceQuotaExceededException", SourceError, "quota is used up: raise it"),
        (404, "ResourceNotFoundException", GoneError, "no longer exists"),
        (403, "SignatureDoesNotMatch", SourceError, "check the clock of this machine and the secret key"),
        (400, "ValidationException", SourceError, "check the parameters in the configuration"),
        (409, "ConflictException", SourceError, "check the parameters"),
    ],
)
def test_answer_of_the_service_is_translated_by_its_code_and_status(status, code, expected, says):
    """And the message gives place, action, status, code, what was said, the request id, and the next step."""
    found = answered(status, code)
    assert type(found) is expected
    assert str(found).startswith(
        f"studios[x], page 3: nimble:ListStudios answered {status} {code}: said so (request request-9)"
    )
    assert says in str(found)


def test_fault_8_wrong_clock_is_named_with_its_distance_to_the_servers(monkeypatch):
    class Frozen(vendor_errors.dt.datetime):
        @classmethod
        def now(cls, tz=None):  # noqa: ARG003
            return ARRIVED.replace(microsecond=0)

    monkeypatch.setattr(vendor_errors.dt, "datetime", Frozen)
    server = ARRIVED.replace(microsecond=0) - vendor_errors.dt.timedelta(minutes=16)
    found = answered(403, "SignatureDoesNotMatch", {"date": format_datetime(server, usegmt=True)})
    assert "clock is +960 s from the server's" in str(found)
    assert "check the clock" in str(answered(403, "SignatureDoesNotMatch", {"date": "soon"}))


def test_answer_without_any_detail_is_translated_too():
    assert type(translate(boto.ClientError({}, "ListStudios"), "place", "a")) is SourceError


@pytest.mark.parametrize(
    ("configuration", "profile", "expected", "says"),
    [
        ("[default]\nregion = x\n", "typo", ConfigError, "typo"),
        ("[default\nregion = x\n", "default", ConfigError, "config"),
        ("[profile p]\ncredential_process = false\n", "p", ConfigError, "^account: .* custom-process"),
    ],
)
def test_what_is_wrong_with_the_credentials_of_the_operator_is_a_sentence(  # noqa: PLR0913, PLR0917  a table
    monkeypatch, tmp_path, configuration, profile, expected, says
):
    """Such as a profile that does not exist: no traceback, and an exit code that says whether to run again."""
    path = tmp_path / "config"
    path.write_text(configuration)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_PROFILE", profile)

    with pytest.raises(expected, match=says):
        _ = Source(SourceSettings(), Endpoint(), threading.Event()).account_id
