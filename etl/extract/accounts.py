"""Whose credentials sign a request. One client serves all accounts: it looks them up for each request that it signs.

A request is made inside `asking_as`. Outside of it, nothing is signed: no request can go out with the credentials of
another account. Credentials that a role gives last an hour. They renew themselves when a quarter of it is left, so a
walk may last longer.
"""

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import botocore.exceptions as boto
from botocore.credentials import DeferredRefreshableCredentials

from etl.config import Access, Account, SourceSettings
from etl.errors import EtlError, SourceError
from etl.extract.credentials import Loaded
from etl.extract.redact import redact
from etl.extract.vendor_errors import DENIED, translate

if TYPE_CHECKING:
    from etl.extract.clients import Clients

LIFETIME_S = 3600
"""How long the credentials of a role last. botocore renews what lasts less than 15 minutes at every request, and a role
that is assumed with the credentials of a role lasts no longer than an hour."""

_asking_as: ContextVar[str] = ContextVar("account that is asked for")


@contextmanager
def asking_as(account_id: str) -> Iterator[None]:
    """Sign what is requested inside the block, in this thread, with the credentials of an account."""
    before = _asking_as.set(account_id)
    try:
        yield
    finally:
        _asking_as.reset(before)


class Accounts:
    """The credentials of each account. Safe to use from several threads.

    `clients_of` returns what makes clients with the credentials of a profile; None: those of this job. `account_of`
    asks whose credentials these are. `own` returns the account of this job. `partition` is part of the ARNs of roles.
    """

    def __init__(
        self,
        settings: SourceSettings,
        partition: str,
        clients_of: Callable[[str | None], "Clients"],
        account_of: Callable[["Clients"], str],
        own: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._partition = partition
        self._clients_of, self._account_of, self._own = clients_of, account_of, own
        self._lock = threading.RLock()
        self._named = {account.id: account for account in settings.accounts}
        self._identities: dict[str, _Identity] = {}
        self._sts: dict[str | None, Any] = {}

    def credentials_of(self, account_id: str) -> Any:
        """Return credentials of an account, which renew themselves; None if there are none.

        Raises:
            SourceError: the credentials that there are belong to another account.
            EtlError: as `Clients.credentials`.
        """
        with self._lock:
            identity = self._identities.setdefault(account_id, self._identity(account_id))
        with identity.lock:
            if identity.refusal:
                raise SourceError(identity.refusal)
            if identity.credentials is None:
                identity.credentials = self._load(identity)
            return identity.credentials

    def renew(self, account_id: str) -> None:
        """Forget the credentials of an account, and load those of its profile, or of this job, once more.

        Raises:
            CredentialsError: the AWS configuration cannot be read now.
        """
        with self._lock:
            identity = self._identities.setdefault(account_id, self._identity(account_id))
            profile = self._named[account_id].profile if account_id in self._named else None
            self._sts.pop(profile, None)
            self._clients_of(profile).renew()
        with identity.lock:
            identity.credentials = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the keys that must not be in any message."""
        with self._lock:
            identities = list(self._identities.values())
        profiles = {None, *(account.profile for account in self._named.values())}
        own = (secret for profile in profiles for secret in self._clients_of(profile).secrets)
        return (*own, *(secret for identity in identities for secret in identity.secrets))

    def _identity(self, account_id: str) -> "_Identity":
        return _Identity(account_id, lambda: self.secrets)

    def _load(self, identity: "_Identity") -> Any:
        account_id, access = identity.account_id, self._access(identity.account_id)
        profile = access.profile if isinstance(access, Account) else None
        if access is not None and access.role:
            return self._assume(identity, access, access.role, profile)
        clients = self._clients_of(profile)
        if access is not None and (found := self._account_of(clients)) != account_id:
            whose = f"the profile {profile}" if profile else "this job"
            raise SourceError(
                f"account {account_id}: the credentials of {whose} are of account {found}; name the `role` to assume "
                f"in {account_id}, or a `profile` of it"
            )
        return clients.credentials()

    def _access(self, account_id: str) -> Access | None:
        """Return how credentials of an account are had; None: they are those of this job."""
        named = self._named.get(account_id)
        return named or (self._settings.organization if account_id != self._own() else None)

    def _assume(self, identity: "_Identity", access: Access, role: str, profile: str | None) -> Loaded:
        arn = role if role.startswith("arn:") else f"arn:{self._partition}:iam::{identity.account_id}:role/{role}"
        identity.role = arn
        asked = {"RoleArn": arn, "RoleSessionName": access.session_name, "DurationSeconds": LIFETIME_S}
        if access.external_id:
            asked["ExternalId"] = access.external_id

        def refresh() -> dict[str, str]:
            given = self._sts_of(profile).assume_role(**asked)["Credentials"]
            return {
                "access_key": given["AccessKeyId"],
                "secret_key": given["SecretAccessKey"],
                "token": given["SessionToken"],
                "expiry_time": str(given["Expiration"]),
                "account_id": identity.account_id,
            }

        return Loaded(DeferredRefreshableCredentials(refresh, "sts-assume-role", time_fetcher=_now), identity)

    def _sts_of(self, profile: str | None) -> Any:
        with self._lock:
            if profile not in self._sts:
                self._sts[profile] = self._clients_of(profile).make("sts", self._settings.region)
            return self._sts[profile]


class _Identity:
    """Who asks for one account. `refusal` is what STS says for good; to ask again would change nothing."""

    def __init__(self, account_id: str, hidden: Callable[[], tuple[str, ...]]) -> None:
        self.account_id = account_id
        self.hidden = hidden
        self.lock = threading.Lock()
        self.credentials: Any = None
        self.secrets: tuple[str, ...] = ()
        self.role = ""
        self.refusal = ""

    @contextmanager
    def told(self, _provider: str) -> Iterator[None]:
        """Make whatever STS raises inside the block one of our errors."""
        try:
            yield
        except (EtlError, MemoryError):
            raise
        except Exception as exc:
            redact(exc, self.hidden())
            error = translate(exc, f"account {self.account_id}", f"sts:AssumeRole on {self.role}")
            if isinstance(exc, boto.ClientError) and DENIED.search(exc.response.get("Error", {}).get("Code", "")):
                trust = "let the trust policy of the role name this job's user or role, and check the external id"
                error.args = (f"{error}; {trust}",)
            if isinstance(error, SourceError):
                self.refusal = str(error)
            raise error from exc


class Signer:
    """Stands in for the credentials of a session, and for their provider: those of the account that is asked for."""

    method = "sts-assume-role"

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def load_credentials(self) -> "Signer":
        """Return what botocore takes for credentials."""
        return self

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the keys that must not be in any message."""
        return self._accounts.secrets

    def get_frozen_credentials(self) -> Any:
        """Return key id, secret key and session token of the account that is asked for. botocore asks for each request.

        Raises:
            LookupError: the request is not made inside `asking_as`.
            EtlError: the account's credentials cannot be had.
        """
        credentials = self._accounts.credentials_of(_asking_as.get())
        if credentials is None:
            raise boto.NoCredentialsError
        return credentials.get_frozen_credentials()

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        """Return a function that returns a property: botocore composes some endpoints with it."""
        return lambda: getattr(self._accounts.credentials_of(_asking_as.get()), name, None)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
