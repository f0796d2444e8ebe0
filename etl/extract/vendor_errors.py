"""The one translation of botocore's errors into ours. The class of an error says what the caller should do next."""

import datetime as dt
import http.client
import re
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import botocore.exceptions as boto
from botocore.loaders import create_loader
from botocore.model import OperationModel
from botocore.parsers import ResponseParserError
from botocore.retries import standard
from urllib3.exceptions import HTTPError

from etl.errors import (
    ConfigError,
    CredentialsError,
    EtlError,
    GoneError,
    PageTokenError,
    SourceError,
    TransientSourceError,
    cut,
    first_line,
    unforeseen,
)

EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
UNKNOWN_KEY = {"UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "AuthFailure"}
_SIGNATURE = {"InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed"}
DENIED = re.compile("Denied|Unauthori[sz]ed|NotAuthorized|Forbidden|AuthorizationError|OptIn|Subscription|Quota")
_TOKEN = re.compile("Token|Marker|Cursor|Pagination")
_DENIED_STATUSES = {401, 402, 403}
_TOO_MANY_REQUESTS = 429

_OPERATOR_MISTAKES = (
    boto.NoCredentialsError, boto.PartialCredentialsError, boto.ProfileNotFound, boto.NoRegionError,
    boto.InvalidRegionError, boto.ParamValidationError, boto.ConfigNotFound, boto.ConfigParseError,
    boto.InvalidConfigError, boto.InvalidRetryConfigurationError, boto.InvalidRetryModeError,
    boto.UnknownServiceError, boto.UnknownEndpointError, boto.InvalidEndpointConfigurationError,
    boto.UnknownRegionError, boto.UnknownFIPSEndpointError, boto.ServiceNotInRegionError,
    boto.InvalidIMDSEndpointError, boto.InvalidIMDSEndpointModeError, boto.InvalidSTSRegionalEndpointsConfigError,
    boto.InvalidChecksumConfigError, boto.NoAuthTokenError, boto.UnknownTokenProviderError, boto.LoginError,
    boto.ValidationError, boto.MissingParametersError, boto.InvalidEndpointDiscoveryConfigurationError,
    boto.EndpointVariantError, boto.UnknownCredentialError, boto.SSOError, boto.InfiniteLoopConfigError,
    boto.InvalidProxiesConfigError, boto.EndpointResolutionError, boto.MissingDependencyException,
    boto.InvalidDefaultsMode,
)  # fmt: skip
_PASSING = (
    boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, boto.CredentialRetrievalError,
    boto.MetadataRetrievalError, boto.ChecksumError, boto.FlexibleChecksumError, boto.WaiterError,
    boto.TokenRetrievalError, boto.RefreshWithMFAUnsupportedError, ResponseParserError,
    # What lies below botocore and comes out of it unchanged, where a body is read.
    HTTPError, http.client.HTTPException, OSError,
)  # fmt: skip


def translate(exc: Exception, place: str, action: str, operation: OperationModel | None = None) -> EtlError:
    """Return our error for one that a request raised: of botocore, of what it stands on, or of Python.

    `action` is that of IAM, nimble:ListStudios. `operation` says which of its errors pass, if it is known.
    """
    if isinstance(exc, boto.ClientError):
        return _translate_response(exc, place, action, operation)
    if isinstance(exc, boto.ParamValidationError) and "report" in getattr(exc, "kwargs", {}):
        report = " ".join(exc.kwargs["report"].splitlines())
        return ConfigError(f"{place}: {report}; check the `parameters` of the dataset and what `for_each` binds")
    if isinstance(exc, _OPERATOR_MISTAKES):
        return ConfigError(
            f"{place}: {first_line(exc)}; check the AWS credential chain and `source` in the configuration"
        )
    if isinstance(exc, _PASSING):
        return TransientSourceError(f"{place}: {first_line(exc)}")
    if isinstance(exc, boto.BotoCoreError) or type(exc).__module__.startswith("botocore."):
        return SourceError(f"{place}: {first_line(exc)}")
    if isinstance(exc, ValueError) and "starting token" in str(exc):
        return PageTokenError(f"{place}: botocore cannot use the token: {first_line(exc)}")
    return unforeseen(place, exc)


def answer(exc: boto.ClientError, action: str) -> str:
    """Return what a response with an error status says, in one line."""
    error, metadata = exc.response.get("Error", {}), exc.response.get("ResponseMetadata", {})
    # Only the first line: below it, AWS repeats a badly signed request, session token included.
    message = cut(str(error.get("Message") or "").partition("\n")[0])
    exc.args = (first_line(exc),)
    said = f"{action} answered {metadata.get('HTTPStatusCode', 0)} {error.get('Code', '?')}: {message}".rstrip(": ")
    return said + (f" (request {metadata['RequestId']})" if metadata.get("RequestId") else "")


def is_passing(exc: boto.ClientError, operation: OperationModel | None = None) -> bool:
    """Tell whether a response asks for patience: whatever botocore itself would repeat, and every fault of a server."""
    status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if status == _TOO_MANY_REQUESTS or status >= 500:  # noqa: PLR2004
        return True
    context = standard.RetryContext(1, operation_model=operation, parsed_response=exc.response)
    checkers = standard.TransientRetryableChecker, standard.ModeledRetryableChecker
    return any(checker().is_retryable(context) for checker in checkers) or (
        _is_throttling(exc) or exc.response.get("Error", {}).get("Code") in _repeated_codes()
    )


def _is_throttling(exc: boto.ClientError) -> bool:
    """Tell whether a response asks for fewer requests."""
    context = standard.RetryContext(1, parsed_response=exc.response)
    return bool(standard.ThrottledRetryableChecker().is_retryable(context))


def may_mean_the_token(exc: boto.ClientError, operation: OperationModel | None = None) -> bool:
    """Tell whether a request with a page token may be refused because of the token; services name this as they like."""
    code = str(exc.response.get("Error", {}).get("Code", ""))
    status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in UNKNOWN_KEY or code in _SIGNATURE or is_passing(exc, operation) or DENIED.search(code):
        return False
    return status not in _DENIED_STATUSES or bool(_TOKEN.search(code))


def _translate_response(exc: boto.ClientError, place: str, action: str, operation: OperationModel | None) -> EtlError:
    """Return our error for a response with an error status."""
    metadata = exc.response.get("ResponseMetadata", {})
    code, status = exc.response.get("Error", {}).get("Code", "?"), int(metadata.get("HTTPStatusCode", 0))
    said = f"{place}: {answer(exc, action)}"
    if is_passing(exc, operation):
        return TransientSourceError(said, throttled=status == _TOO_MANY_REQUESTS or _is_throttling(exc))
    if code in EXPIRED:
        return CredentialsError(f"{said}; renew the credentials and run again to continue")
    if code in UNKNOWN_KEY:
        known = "the access key id of the credentials is not known there"
        return CredentialsError(f"{said}; {known}: use other ones, or enable the Region, and run again to continue")
    if code in _SIGNATURE:
        return SourceError(f"{said}; {_clock_difference(metadata)}")
    if status == 404:  # noqa: PLR2004
        return GoneError(f"{said}; what is listed no longer exists")
    denied = f"the credentials need {action}: grant it, then run again"
    steps = {401: denied, 402: "the account's quota is used up: raise it, then run again", 403: denied}
    return SourceError(f"{said}; {steps.get(status, 'check the parameters in the configuration')}")


@cache
def _repeated_codes() -> frozenset[str]:
    """Return the codes that botocore's former handler repeats; some belong to one service only."""

    def codes(value: Any) -> Iterator[str]:
        for key, inner in value.items() if isinstance(value, dict) else ():
            yield from [inner] if key == "service_error_code" else codes(inner)

    return frozenset(codes(create_loader().load_data("_retry")))


def _clock_difference(metadata: Mapping[str, Any]) -> str:
    """Say how far this machine's clock is from the Date header of the response: it causes most bad signatures."""
    try:
        server = parsedate_to_datetime(metadata["HTTPHeaders"]["date"])
    except (KeyError, ValueError):
        return "check the clock of this machine and the secret key"
    seconds = (dt.datetime.now(dt.UTC) - server).total_seconds()
    return f"this machine's clock is {seconds:+.0f} s from the server's: set it right, or check the secret key"
