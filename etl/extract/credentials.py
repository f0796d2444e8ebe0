"""Credentials of AWS, from whichever provider of botocore has some. Each failure is a sentence that names the provider.

A provider runs programs, reads files and asks services, and lets out whatever Python raises there. This is the one
place where that is caught: when credentials are looked for, and each time they are renewed.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from getpass import GetPassWarning
from typing import Any, Protocol

import botocore.exceptions as boto
from botocore.credentials import create_credential_resolver
from botocore.session import Session

from etl.errors import CredentialsError, EtlError, TransientSourceError, first_line
from etl.extract.redact import redact
from etl.extract.vendor_errors import DENIED, EXPIRED, UNKNOWN_KEY, answer, is_passing

_KEY = re.compile(r"[\x21-\x7e]*")
_SERVICES = {
    "AssumeRole": "sts", "AssumeRoleWithWebIdentity": "sts", "GetRoleCredentials": "sso", "CreateToken": "sso-oauth",
    "CreateOAuth2Token": "signin",
}  # fmt: skip
REMEMBERED = 8
"""Secrets that are hidden: requests may be under way that were signed with former ones."""
_SETTINGS = "variables AWS_… or ~/.aws/config"
_WHERE = {
    "env": "AWS_ACCESS_KEY_ID and its like",
    "custom-process": "credential_process of the profile",
    "assume-role": "role_arn of the profile",
    "assume-role-with-web-identity": "AWS_WEB_IDENTITY_TOKEN_FILE or web_identity_token_file of the profile",
    "sso": "sso_session or sso_start_url of the profile",
    "login": "login_session of the profile",
    "shared-credentials-file": "~/.aws/credentials or AWS_SHARED_CREDENTIALS_FILE",
    "config-file": "~/.aws/config or AWS_CONFIG_FILE",
    "container-role": "AWS_CONTAINER_CREDENTIALS_FULL_URI and its like",
    "iam-role": "the metadata service of this machine",
}


class Chain:
    """Stands in for the resolver of credentials of a botocore session, and looks where that would look.

    `secrets` are the keys that it and the chain before it last gave out: they must not be in any message.
    """

    def __init__(self, session: Session, secrets: tuple[str, ...] = ()) -> None:
        self.secrets = secrets
        self._session = session
        self._role: str | None = None
        session.register("provide-client-params.sts", self._note_role)
        session.register_component("credential_provider", self)

    def load_credentials(self) -> "Loaded | None":
        """Return the credentials of the first provider that has some; None if none has.

        Raises:
            CredentialsError: a provider that is configured fails.
            TransientSourceError: it fails because a service does not answer now.
        """
        with self.told(_SETTINGS):
            providers = create_credential_resolver(self._session).providers
        for provider in providers:
            with self.told(provider.METHOD):
                found = provider.load()
            if found is not None:
                return Loaded(found, self)
        return None

    @contextmanager
    def told(self, provider: str) -> Iterator[None]:
        """Make whatever a provider raises inside the block one of our errors."""
        try:
            yield
        except (EtlError, MemoryError):
            raise
        except Exception as exc:
            redact(exc, self.secrets)
            raise self._error(provider, exc) from exc

    def _error(self, provider: str, exc: Exception) -> EtlError:
        where = f"credentials of the provider {provider} ({_WHERE.get(provider, 'AWS configuration')})"
        if provider == _SETTINGS:
            where = f"AWS configuration ({_SETTINGS})"
        what, step = f"{type(exc).__name__}: {first_line(exc)}", "correct it, then run again"
        if isinstance(exc, boto.ClientError):
            action = f"{_SERVICES.get(exc.operation_name, provider)}:{exc.operation_name}"
            code = exc.response.get("Error", {}).get("Code", "")
            role = f" on {self._role}" if self._role and action.startswith("sts:") else ""
            what = answer(exc, f"{action}{role}")
            if code in EXPIRED or code in UNKNOWN_KEY:
                step = "the credentials that it asks with are over or not known: renew them, then run again"
            elif DENIED.search(code):
                trust = ", and let the role's trust policy name them" if role else ""
                step = f"the credentials that it asks with need {action}{role}: grant it{trust}, then run again"
        elif isinstance(exc, OSError) and exc.strerror:
            what = f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
        elif isinstance(exc, boto.BotoCoreError):
            what = first_line(exc).rstrip(": ")
        elif isinstance(exc, EOFError | GetPassWarning):
            what = "it asks for a code, such as that of MFA, and there is no terminal"
            step = "use credentials that need none for a job at night, then run again"
        if _passes(exc):
            return TransientSourceError(f"{where}: {what}; run again when it answers")
        return CredentialsError(f"{where}: {what}; {step}")

    def _note_role(self, params: dict[str, Any], **_: object) -> None:
        self._role = params.get("RoleArn") or self._role


class Teller(Protocol):
    """Makes errors of a provider ours, and keeps what must not be in any message."""

    secrets: tuple[str, ...]

    def told(self, provider: str) -> AbstractContextManager[None]:
        """Make whatever a provider raises inside the block one of our errors."""


class Loaded:
    """Credentials that a provider gave. They renew themselves, and say so in our errors if they cannot."""

    def __init__(self, credentials: Any, chain: Teller) -> None:
        self.method: str = credentials.method
        self._credentials = credentials
        self._chain = chain
        self._last: Any = None

    def get_frozen_credentials(self) -> Any:
        """Return key id, secret key and session token that belong together; renew them first if it is time."""
        with self._chain.told(self.method):
            frozen = self._credentials.get_frozen_credentials()
            if frozen is not self._last:
                _check_keys(frozen)
                fresh = tuple(value for value in frozen[1:3] if value)
                self._last, self._chain.secrets = frozen, (fresh + self._chain.secrets)[:REMEMBERED]
        return frozen

    @property
    def account_id(self) -> str | None:
        """Return the account that the provider names; None if it names none."""
        with self._chain.told(self.method):
            account_id: str | None = getattr(self._credentials, "account_id", None)
        return account_id

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        """Return a function that returns a property: botocore composes some endpoints with it."""

        def ask() -> Any:
            with self._chain.told(self.method):
                return getattr(self._credentials, name, None)

        return ask


def _check_keys(frozen: Any) -> None:
    """Refuse what cannot stand in a header; the message of the HTTP client would repeat it."""
    for what, value in zip(("access key id", "secret access key", "session token"), frozen, strict=False):
        if value and not _KEY.fullmatch(value):
            raise ValueError(f"the {what} has blanks, line breaks or other characters that no key has")


def _passes(exc: BaseException) -> bool:
    """Tell whether a provider fails because a service does not answer now."""
    if isinstance(exc, boto.ClientError):
        return is_passing(exc)
    if isinstance(exc, boto.CredentialRetrievalError | boto.MetadataRetrievalError):
        return exc.__context__ is not None and _passes(exc.__context__)  # of a service that cannot be reached
    return isinstance(exc, boto.HTTPClientError | boto.ConnectionError)
