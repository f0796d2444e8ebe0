"""One page of one list operation, through boto3; every error of botocore is translated into one of ours.

boto3 does the signing, finds endpoints and credentials, and paginates; a starting token therefore means the same here
as in the AWS CLI. This room adds the proof that a response is a page, and the patience that repeats a request.
"""

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import boto3
import botocore
import botocore.exceptions as boto
from botocore.config import Config
from botocore.paginate import PageIterator, TokenDecoder, TokenEncoder
from botocore.parsers import ResponseParserError

from etl.config import SourceSettings
from etl.errors import ConfigError, EtlError, TokenRejectedError, TransientSourceError, unforeseen
from etl.extract.bounded import BoundedSession
from etl.extract.parsed import MalformedPageError, plain_tokens, proof_hook, read_parsed_page
from etl.extract.patience import Patience
from etl.extract.raw import raw_page_hook, read_raw_page
from etl.extract.service_model import describe_operation, model_session
from etl.extract.vendor_errors import BAD_REQUEST, EXPIRED, translate
from etl.model import Dataset, Operation, Page, Slice

_CLIENT_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 1},  # only `Patience` repeats
    connect_timeout=10,
    read_timeout=60,
    max_pool_connections=64,
    # Without this, botocore composes the header for every request, which costs a sixth of the request's CPU time.
    user_agent=f"nimble-etl Boto3/{boto3.__version__} Botocore/{botocore.__version__}",
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go. `credentials` (access key id, secret) are given only for the embedded studio."""

    url: str | None = None
    credentials: tuple[str, str] | None = None


class Source:
    """Fetches pages, by the `source` part of the configuration. `stop` ends every wait within seconds.

    Safe to use from several threads. It keeps one client per dataset and Region.
    """

    def __init__(self, settings: SourceSettings, endpoint: Endpoint, stop: threading.Event) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._patience = Patience(settings.retry, stop)
        self._lock = threading.Lock()
        self._session = self._new_session()
        self._models = model_session()
        self._operations: dict[str, Operation] = {}
        self._paginators: dict[tuple[str, str], Any] = {}

    @cached_property
    def account_id(self) -> str:
        """Return the account whose resources are listed: from the configuration, the credentials, or STS.

        Raises:
            EtlError: there are no credentials, or STS does not answer.
        """
        if self._settings.account_id:
            return self._settings.account_id
        try:
            credentials = self._session.get_credentials()
            if credentials is not None:
                credentials.get_frozen_credentials()  # refreshes them: a provider that fails now is not waited for
                if getattr(credentials, "account_id", None):
                    return str(credentials.account_id)
        except (boto.BotoCoreError, boto.ClientError, ResponseParserError) as exc:
            raise translate(exc, "account", "sts:GetCallerIdentity") from exc
        account_id = self._patience.ask("account", self._ask_sts)
        if account_id is None:
            raise TransientSourceError(
                "account: sts:GetCallerIdentity did not say which; run again, or set source.account_id if the endpoint "
                "has no STS"
            )
        return account_id

    def _ask_sts(self) -> str | None:
        """Return the account that STS says; None if the answer is not one of STS: a repetition would not change it."""
        try:
            with self._lock:
                sts = self._new_client("sts", self._settings.region)
            return str(sts.get_caller_identity()["Account"])
        except (ResponseParserError, KeyError):
            return None
        except (boto.BotoCoreError, boto.ClientError) as exc:
            raise translate(exc, "account", "sts:GetCallerIdentity") from exc

    def operation(self, dataset: Dataset) -> Operation:
        """Return what the service model says about a dataset's operation."""
        with self._lock:
            if dataset.name not in self._operations:
                self._operations[dataset.name] = describe_operation(self._models, dataset)
            return self._operations[dataset.name]

    def fetch_page(
        self, dataset: Dataset, slice_: Slice, number: int, starting_token: str | None, max_items: int | None
    ) -> Page:
        """Return the page that a starting token leads to. The request is repeated while it fails for a passing reason.

        `number` counts pages from 1. Without a starting token, this is the first page. The page keeps at most
        `max_items` records; None keeps all.

        Raises:
            TransientSourceError: it still fails after `source.retry.timeout`, or at the order to stop.
            TokenRejectedError: the service refuses the token, but answers the same request without it.
            SourceError, ConfigError: repeating the request cannot help.
        """
        place = f"{slice_}, page {number}"
        action = f"{dataset.service}:{self.operation(dataset).name}"  # the IAM action, nimble:ListStreamingSessions
        tries, renewed = 0, False

        def once() -> Page:
            nonlocal tries, renewed
            tries += 1
            try:
                return self._request(dataset, slice_, number, starting_token, max_items, tries - 1)
            except MalformedPageError as exc:
                raise TransientSourceError(f"{place}: {exc}") from exc
            except boto.ClientError as exc:
                code = exc.response["Error"].get("Code", "")
                if code in EXPIRED and not renewed:
                    # botocore does not retry this; a long walk outlives the credentials that it began with.
                    renewed = True
                    self._renew_credentials()
                    raise TransientSourceError(f"{place}: credentials have expired; asking for new ones") from exc
                if code in BAD_REQUEST and starting_token is not None:
                    raise self._judge_token(dataset, slice_, place, action) from exc
                raise translate(exc, place, action) from exc
            except (boto.BotoCoreError, ResponseParserError) as exc:
                raise translate(exc, place, action) from exc
            except EtlError:
                raise
            except Exception as exc:  # a server may send anything: it costs this slice
                raise unforeseen(place, exc) from exc

        return self._patience.ask(place, once)

    def _request(  # noqa: PLR0913, PLR0917  the parts of one request
        self, dataset: Dataset, slice_: Slice, number: int, token: str | None, max_items: int | None, tried: int
    ) -> Page:
        """Ask once, through a new iterator of botocore's paginator: a used one would start at its last token."""
        operation = self.operation(dataset)
        parameters: dict[str, Any] = {**slice_.parameters, **dataset.parameters}
        limits = {"StartingToken": token, "MaxItems": max_items}
        if max_items and operation.pager and not operation.pager.is_primary:
            raise ConfigError(f"{slice_}: max_items counts another list than {operation.pager.result!r}; leave it out")
        tokens = plain_tokens(token) if token else None
        if tokens and ((operation.pager and not max_items) or "None" in tokens.values()):
            # `max_items` counts from a starting token. With plain tokens there is none, so the page is taken whole.
            parameters, limits = {**parameters, **tokens}, {}
        pages: PageIterator = self._paginator(dataset, slice_.region).paginate(
            **parameters, PaginationConfig={**limits, "PageSize": dataset.page_size}
        )
        if operation.pager:
            return read_parsed_page(dataset, operation, pages, number, tried)
        return read_raw_page(operation, pages, number, tried)

    def _judge_token(self, dataset: Dataset, slice_: Slice, place: str, action: str) -> EtlError:
        """Return the error for a refused token. No API error says "expired"; a request without a token decides."""
        try:
            self._request(dataset, slice_, 1, None, 1, 0)
        except (boto.ClientError, boto.BotoCoreError) as exc:
            return translate(exc, f"{place}, then the same request without a token", action)
        return TokenRejectedError(f"{place}: the token is refused, the request without it works: it has expired")

    def _new_session(self) -> boto3.session.Session:
        keys = self._endpoint.credentials or ()
        return boto3.session.Session(*keys, botocore_session=model_session(), region_name=self._settings.region)

    def _renew_credentials(self) -> None:
        with self._lock:
            self._session = self._new_session()
            self._paginators.clear()

    def _new_client(self, service: str, region: str) -> Any:
        """Return a new client. The caller holds the lock, because a session cannot make two clients at once."""
        client = self._session.client(
            service, region_name=region, endpoint_url=self._endpoint.url, config=_CLIENT_CONFIG
        )
        endpoint = client._endpoint  # noqa: SLF001  botocore has no public way to read a body in pieces
        endpoint.http_session = BoundedSession(endpoint.http_session, self._settings.max_page_bytes)
        return client

    def _paginator(self, dataset: Dataset, region: str) -> Any:
        """Return boto3's paginator of the dataset's operation; its client is the dataset's own, as are the hooks."""
        with self._lock:
            if (dataset.name, region) not in self._paginators:
                client = self._new_client(dataset.service, region)
                operation = self._operations[dataset.name]
                service_id = client.meta.service_model.service_id.hyphenize()
                hook = proof_hook(operation) if operation.pager else raw_page_hook(operation)
                client.meta.events.register(f"before-parse.{service_id}.{operation.name}", hook)
                self._paginators[dataset.name, region] = client.get_paginator(dataset.operation)
            return self._paginators[dataset.name, region]


def check_starting_token(token: str) -> str:
    """Return the token if it has botocore's encoding.

    botocore also accepts older forms and guesses what they mean: "None" starts again, "a___2" skips two records.

    Raises:
        ConfigError: the token is not in botocore's encoding.
    """
    try:
        decoded = TokenDecoder().decode(token)
    except (ValueError, AttributeError, TypeError):
        decoded = None
    if not isinstance(decoded, dict) or not decoded or TokenEncoder().encode(decoded) != token:
        raise ConfigError(
            "--starting-token: this is not a starting token; expected one that `nimble-etl run` or "
            "`aws … --max-items` printed (base64 of a JSON object), not a service's own nextToken"
        )
    return token
