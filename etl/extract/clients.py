"""Clients as boto3 makes them: where their requests go, on what way, and with which credentials.

They are made by botocore's session, as boto3 does it. boto3 itself would bring its resources and the transfers of S3,
which nobody here uses and which cost a tenth of a second to import.

What is wrong with the way is found before the first request: otherwise it would look like a network that is down.
"""

import datetime as dt
import os
import ssl
import threading
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import botocore
import botocore.exceptions as boto
from botocore.config import Config
from botocore.configprovider import ConfiguredEndpointProvider
from urllib3.exceptions import LocationValueError
from urllib3.util import parse_url

from etl.config import SourceSettings
from etl.errors import ConfigError, CredentialsError, EtlError, first_line
from etl.extract.accounts import Signer
from etl.extract.bounded import BoundedSession
from etl.extract.credentials import Chain
from etl.extract.redact import redact
from etl.extract.service_model import aws_session, model_session

_CLIENT_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 1},  # only `Patience` repeats
    connect_timeout=10,
    read_timeout=60,
    max_pool_connections=64,
    # Without this, botocore composes the header for every request, which costs a sixth of the request's CPU time.
    user_agent=f"nimble-etl Boto3/{version('boto3')} Botocore/{botocore.__version__}",
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go.

    Attributes:
        url: of the endpoint; None: that of AWS.
        credentials: access key id and secret; given only for the embedded studio.
        clock_ahead: how far its clock is ahead of ours: a page is received when its world shows it. Not zero only for
            the embedded studio, whose world stands at an instant of the snapshot date.
    """

    url: str | None = None
    credentials: tuple[str, str] | None = None
    clock_ahead: dt.timedelta = dt.timedelta(0)


class Clients:
    """Makes clients. With given credentials, nothing of the AWS configuration of this machine has an effect.

    `profile` is used in place of the one that the environment names. `signer` has the credentials, in place of the
    credential chain.

    Raises:
        ConfigError: the AWS configuration is invalid.
    """

    def __init__(
        self, settings: SourceSettings, endpoint: Endpoint, *, profile: str | None = None, signer: Signer | None = None
    ) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._profile = profile
        self._signer = signer
        self._lock = threading.Lock()
        self._chain: Chain | None = None
        self._load()
        self._certificates_are_checked = endpoint.credentials is not None

    def _load(self) -> None:
        keys = self._endpoint.credentials
        self._core = model_session() if keys else aws_session()
        self._core.set_config_variable("region", self._settings.region)
        if self._profile and not keys:
            self._core.set_config_variable("profile", self._profile)
        if self._signer:
            self._core.register_component("credential_provider", self._signer)
        elif keys:
            self._core.set_credentials(*keys)
        else:
            self._chain = Chain(self._core, self._chain.secrets if self._chain else ())

    def renew(self) -> None:
        """Load the configuration and the credentials once more; clients that are there keep theirs.

        Raises:
            CredentialsError: the configuration cannot be read now.
        """
        with self._lock:
            try:
                self._load()
            except ConfigError as exc:
                raise CredentialsError(str(exc)) from exc

    def credentials(self) -> Any:
        """Return the credentials that clients sign with; None if there are none.

        Raises:
            CredentialsError, TransientSourceError: as `Chain.load_credentials`.
        """
        with self._lock:
            return self._core.get_credentials()

    def load_credentials(self) -> str | None:
        """Load the credentials, and return their account if their provider names it. Raises as `credentials`."""
        credentials = self.credentials()
        if credentials is None:
            return None
        credentials.get_frozen_credentials()
        return getattr(credentials, "account_id", None)

    def endpoint_of(self, service: str) -> str | None:
        """Return the endpoint that is in force for a service; None: the one that AWS has for it.

        Raises:
            ConfigError: the profile names a section of endpoints that is not there.
        """
        if self._endpoint.url:
            return self._endpoint.url
        core = self._core
        try:
            if core.get_config_variable("ignore_configured_endpoint_urls"):
                return None
            given = ConfiguredEndpointProvider(core.full_config, core.get_scoped_config(), service).provide()
        except boto.BotoCoreError as exc:
            raise ConfigError(f"AWS configuration: {first_line(exc)}; correct ~/.aws/config") from exc
        return str(given) if given else None

    def make(self, service: str, region: str, **config: Any) -> Any:
        """Return a new client; `config` are further options of botocore's Config.

        Raises:
            CredentialsError: the AWS configuration, the credentials or the proxy cannot be used.
            ConfigError: the certificates that the AWS configuration names cannot be read.
            TransientSourceError: a service that gives out credentials does not answer now.
        """
        if self.endpoint_of(service):
            config["inject_host_prefix"] = False  # nobody resolves data-localhost
        if self._endpoint.credentials:
            config["proxies"] = {}
        with self._lock:  # a session cannot make two clients at once
            try:
                client = self._core.create_client(
                    service,
                    region_name=region,
                    endpoint_url=self._endpoint.url,
                    config=_CLIENT_CONFIG.merge(Config(**config)),
                )
            except (EtlError, MemoryError):
                raise
            except Exception as exc:
                self.redact(exc)
                what = (
                    first_line(exc)
                    if isinstance(exc, boto.BotoCoreError | ValueError)
                    else f"{type(exc).__name__}: {first_line(exc)}"
                )
                raise CredentialsError(
                    f"boto3 makes no client for {service}: {what}; correct the AWS configuration (variables AWS_…, "
                    "~/.aws/config) or `source` in the configuration, then run again"
                ) from exc
        if not self._certificates_are_checked and client.meta.endpoint_url.startswith("https:"):
            self._check_certificates()
            self._certificates_are_checked = True
        endpoint = client._endpoint  # noqa: SLF001  botocore has no public way to read a body in pieces
        _check_proxy(endpoint.http_session, client.meta.endpoint_url)
        endpoint.http_session = BoundedSession(endpoint.http_session, self._settings.max_page_bytes)
        return client

    def redact(self, exc: BaseException, token: str | None = None) -> None:
        """Take keys, passwords and the page token that was sent out of the texts of an error."""
        redact(exc, self.secrets, token)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the keys that must not be in any message."""
        return self._signer.secrets if self._signer else self._chain.secrets if self._chain else ()

    def _check_certificates(self) -> None:
        """Refuse a file of certificates that is none: requests would fail as if the network were down."""
        path = self._core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
        if not path:
            return
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
        except OSError as exc:
            raise ConfigError(
                f"AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE or ca_bundle of the profile: {path!r} cannot be used: "
                f"{exc.strerror or first_line(exc)}; expected a file of certificates in PEM form"
            ) from exc


def _check_proxy(session: Any, url: str) -> None:
    """Refuse a proxy that no request could go through. Its URL may have a password, so it is not repeated."""
    scheme, configured = url.partition(":")[0], session._proxy_config  # noqa: SLF001  botocore tells it to nobody
    given = (configured._proxies or {}).get(scheme)  # noqa: SLF001  the same
    if not given:
        return
    expected = "expected http://host:port, with special characters written as %23 and the like"
    try:
        proxy = parse_url(configured.proxy_url_for(url))
        usable = bool(proxy.host) and given.partition("://")[0 if "://" in given else 1] in {"http", "https", ""}
    except (LocationValueError, ValueError):
        usable = False
    if not usable:
        raise CredentialsError(
            f"environment {scheme.upper()}_PROXY: is no URL of a proxy that boto3 can use; {expected}"
        )
