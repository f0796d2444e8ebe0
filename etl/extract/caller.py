"""Whose credentials a job has: what the configuration says, compared with what the credentials or STS say."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property

import botocore.exceptions as boto
from botocore.parsers import ResponseParserError

from etl.config import SourceSettings
from etl.errors import ConfigError, EtlError, TransientSourceError
from etl.extract.clients import Clients
from etl.extract.patience import Patience
from etl.extract.redact import without_userinfo
from etl.extract.vendor_errors import EXPIRED, may_mean_the_token

log = logging.getLogger(__name__)

_STS = "sts:GetCallerIdentity"


class Caller:
    """Tells the account of a job, and that of other credentials.

    Args:
        settings: the `source` part of the configuration.
        patience: repeats what fails for a passing reason.
        own: returns what makes clients with the credentials of this job.
        told: given a place and an action, makes what is raised inside of its block one of our errors.
    """

    def __init__(
        self,
        settings: SourceSettings,
        patience: Patience,
        own: Callable[[], Clients],
        told: Callable[[str, str], AbstractContextManager[None]],
    ) -> None:
        self._settings = settings
        self._patience = patience
        self._own = own
        self._told = told

    @cached_property
    def account_id(self) -> str:
        """Return the account whose resources are listed: from the configuration, the credentials, or STS.

        The configured one is compared with what the credentials or STS say, where they say it. If the configuration
        names accounts, it is the first of them.

        Raises:
            ConfigError: the credentials cannot be had or are of another account, or nobody says which.
            EtlError: STS does not answer.
        """
        if self._settings.accounts:
            return self._settings.accounts[0].id
        configured = self._settings.account_id
        found = self._patience.ask("account", self._load_credentials)
        if found is None and configured is None:
            try:
                return self._patience.ask("account", self._ask_sts)
            except TransientSourceError as exc:
                if self._own().endpoint_of("sts"):
                    exc.args = (f"{exc}; if there is no STS, set source.account_id",)
                raise
        if found is None:
            try:
                found = self._patience.ask_once("account", self._ask_sts)
            except EtlError as exc:
                log.info("source.account_id is taken as it is, because nobody says otherwise: %s", exc)
        if configured and found and configured != found:
            raise ConfigError(
                f"source.account_id is {configured}, and the credentials are of account {found}; use credentials of "
                f"{configured}, or change source.account_id"
            )
        return str(configured or found)

    def account_of(self, clients: Clients) -> str:
        """Return the account of the credentials that clients sign with."""
        return clients.load_credentials() or self._ask_sts(clients)

    def _load_credentials(self) -> str | None:
        with self._told("account", _STS):
            return self._own().load_credentials()

    def _ask_sts(self, clients: Clients | None = None) -> str:
        """Return the account that STS says."""
        with self._told("account", _STS):
            client = (clients or self._own()).make("sts", self._settings.region)
            try:
                return str(client.get_caller_identity()["Account"])
            except (ResponseParserError, KeyError) as exc:
                raise self._without_sts("something else") from exc
            except boto.ClientError as exc:
                code = exc.response["Error"].get("Code", "")
                if code in EXPIRED or not may_mean_the_token(exc) or not self._own().endpoint_of("sts"):
                    raise
                raise self._without_sts(f"{exc.response['ResponseMetadata']['HTTPStatusCode']} {code}") from exc

    def _without_sts(self, found: str) -> EtlError:
        """Return the error for an answer that is not one of STS: a repetition would not change it."""
        url = self._own().endpoint_of("sts")
        if url is None:
            return TransientSourceError(f"account: {_STS} answers {found}; run again, or set source.account_id")
        url = without_userinfo(url)
        return ConfigError(
            f"account: {url} has no STS: to {_STS} it answers {found}; set source.account_id to the 12 digits of yours"
        )
