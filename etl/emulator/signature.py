"""Signature Version 4, verified as AWS does.

The caller knows the secret, and signed this very request, just now.

Source: AWS General Reference, "Signature Version 4 signing process": canonical request, string to sign, key.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote

ACCESS_KEY_ID = "AKIAEMBEDDEDSTUDIO00"
SECRET_ACCESS_KEY = "embedded-studio-not-a-secret"
"""Public by design: it opens nothing but the embedded studio."""
MAX_SKEW_S = 300

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential="
    r"(?P<key>[^/,\s]+)/(?P<date>\d{8})/(?P<region>[^/,\s]+)/(?P<service>[^/,\s]+)/aws4_request, ?"
    r"SignedHeaders=(?P<headers>[a-z0-9;_-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)


class Key(NamedTuple):
    """What an access key id stands for. With a `token`, requests must carry it, and it `expires_at` an instant."""

    secret: str
    account_id: str
    token: str | None = None
    expires_at: datetime | None = None


class Claim(NamedTuple):
    """What a good signature says: whose key it is, and for which Region and service the request was signed."""

    key: Key
    region: str
    service: str


class SignatureError(Exception):
    """A request that AWS answers with status 403, under this error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


def verify_signature(  # noqa: PLR0913  the parts that are signed
    *,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
    region: str | None,
    keys: Mapping[str, Key],
) -> Claim:
    """Return what the signature of a request says, if it is good.

    Args:
        method: upper case.
        path: as sent, percent-encoded.
        query: as sent, without the question mark.
        headers: by lower-case name.
        body: whole.
        now: the server's clock.
        region: Region that the signature must name; None accepts any.
        keys: by access key id.

    Raises:
        SignatureError: anything about the signature is wrong.
    """
    if "authorization" not in headers:
        raise SignatureError("MissingAuthenticationTokenException", "Missing Authentication Token")
    claim = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if not claim:
        raise SignatureError("IncompleteSignatureException", "Authorization header is not of Signature Version 4")
    signed_names = claim["headers"].split(";")
    if missing := [name for name in (*signed_names, "host", "x-amz-date") if name not in headers]:
        raise SignatureError("IncompleteSignatureException", f"Header {missing[0]} is signed or required, but absent")
    key = keys.get(claim["key"])
    if key is None or (key.token is not None and headers.get("x-amz-security-token") != key.token):
        raise SignatureError("UnrecognizedClientException", "The security token included in the request is invalid.")
    amz_date = headers.get("x-amz-date", "")
    _check_date(amz_date, claim["date"], now)
    if key.expires_at and now >= key.expires_at:
        raise SignatureError("ExpiredTokenException", "The security token included in the request is expired")
    if region is not None and claim["region"] != region:
        raise SignatureError("InvalidSignatureException", f"Credential should be scoped to a valid region: {region}")
    canonical_request = "\n".join(
        (
            method,
            quote(path, safe="/-_.~"),  # of an already encoded path: every service but S3 encodes twice
            _canonical_query(query),
            *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in signed_names),
            "",
            claim["headers"],
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{claim['date']}/{claim['region']}/{claim['service']}/aws4_request"
    digest = hashlib.sha256(canonical_request.encode()).hexdigest()
    string_to_sign = f"AWS4-HMAC-SHA256\n{amz_date}\n{scope}\n{digest}"
    signing_key = _signing_key(key.secret, claim["date"], claim["region"], claim["service"])
    signature = hmac.new(signing_key, string_to_sign.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(signature, claim["signature"]):
        raise SignatureError(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method.",
        )
    return Claim(key, claim["region"], claim["service"])


def _check_date(amz_date: str, scope_date: str, now: datetime) -> None:
    try:
        signed_at = datetime.strptime(amz_date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise SignatureError("IncompleteSignatureException", f"X-Amz-Date is {amz_date!r}") from None
    if scope_date != amz_date[:8]:
        raise SignatureError("InvalidSignatureException", "Date in Credential scope does not match X-Amz-Date")
    skew_s = (signed_at - now).total_seconds()
    if abs(skew_s) > MAX_SKEW_S:
        fault = "not yet current" if skew_s > 0 else "expired"
        message = f"Signature {fault}: {amz_date} is not within 5 min. of {now:%Y%m%dT%H%M%SZ}"
        raise SignatureError("InvalidSignatureException", message)


def _canonical_query(query: str) -> str:
    pairs = (part.partition("=") for part in query.split("&") if part)
    encoded = ((quote(unquote(name), safe="-_.~"), quote(unquote(value), safe="-_.~")) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in sorted(encoded))


@lru_cache(maxsize=256)
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
