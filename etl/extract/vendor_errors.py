"""The one translation of botocore's errors into ours. The class of an error says what the caller should do next."""

import datetime as dt
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import botocore.exceptions as boto
from botocore.parsers import ResponseParserError

from etl.errors import (
    ConfigError,
    EtlError,
    GoneError,
    PageTokenError,
    SourceError,
    TransientSourceError,
    cut,
    first_line,
)

EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_THROTTLED = {
    "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException", "RequestLimitExceeded",
    "RequestThrottled", "RequestThrottledException", "SlowDown", "PriorRequestNotComplete", "RequestTimeout",
    "RequestTimeoutException", "BandwidthLimitExceeded", "LimitExceededException", "TransactionInProgressException",
    "ProvisionedThroughputExceededException", "EC2ThrottledException",
}  # fmt: skip
_SIGNATURE = {"InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "AuthFailure"}
BAD_REQUEST = {"ValidationException", "ValidationError", "InvalidNextToken", "InvalidNextTokenException",
                "InvalidPaginationToken", "InvalidToken", "InvalidParameterValue", "BadRequestException",
                "InvalidParameterException", "InvalidInputException"}  # fmt: skip

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
)  # fmt: skip


def translate(exc: Exception, place: str, action: str) -> EtlError:
    """Return our error for one of botocore's: a `ClientError`, or a `BotoCoreError`, which is no base of the former."""
    if isinstance(exc, boto.ClientError):
        return _translate_response(exc, place, action)
    if isinstance(exc, boto.ParamValidationError) and "report" in getattr(exc, "kwargs", {}):
        report = " ".join(exc.kwargs["report"].splitlines())
        return ConfigError(f"{place}: {report}; check the `parameters` of the dataset and what `for_each` binds")
    if isinstance(exc, _OPERATOR_MISTAKES):
        return ConfigError(
            f"{place}: {first_line(exc)}; check the AWS credential chain and `source` in the configuration"
        )
    if isinstance(exc, _PASSING):
        return TransientSourceError(f"{place}: {first_line(exc)}")
    if isinstance(exc, ValueError):
        return PageTokenError(f"{place}: botocore cannot use the token: {first_line(exc)}")
    return SourceError(f"{place}: {first_line(exc)}")


def _translate_response(exc: boto.ClientError, place: str, action: str) -> EtlError:
    """Return our error for a response with an error status."""
    error, metadata = exc.response.get("Error", {}), exc.response.get("ResponseMetadata", {})
    code, status = error.get("Code", "?"), int(metadata.get("HTTPStatusCode", 0))
    # Only the first line: below it, AWS repeats a badly signed request, session token included.
    message = cut(str(error.get("Message") or "").partition("\n")[0])
    exc.args = (first_line(exc),)
    said = f"{place}: {action} answered {status} {code}: {message}".rstrip(": ")
    request = f" (request {metadata['RequestId']})" if metadata.get("RequestId") else ""
    if code in _THROTTLED or status == 429 or status >= 500:  # noqa: PLR2004
        return TransientSourceError(f"{said}{request}")
    if code in EXPIRED:
        return TransientSourceError(f"{said}{request}; renew the credentials and run again to continue")
    if code in _SIGNATURE:
        return SourceError(f"{said}{request}; {_clock_difference(metadata)}")
    if status == 404:  # noqa: PLR2004
        return GoneError(f"{said}{request}; what is listed no longer exists")
    denied = f"the credentials need {action}: grant it, then run again"
    steps = {401: denied, 402: "the account's quota is used up: raise it, then run again", 403: denied}
    return SourceError(f"{said}{request}; {steps.get(status, 'check the parameters in the configuration')}")


def _clock_difference(metadata: Mapping[str, Any]) -> str:
    """Say how far this machine's clock is from the Date header of the response: it causes most bad signatures."""
    try:
        server = parsedate_to_datetime(metadata["HTTPHeaders"]["date"])
    except (KeyError, ValueError):
        return "check the clock of this machine and the secret key"
    seconds = (dt.datetime.now(dt.UTC) - server).total_seconds()
    return f"this machine's clock is {seconds:+.0f} s from the server's: set it right, or check the secret key"
