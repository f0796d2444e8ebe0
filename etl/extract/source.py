"""One page of one list operation, through boto3, with every vendor error translated.

Signing, endpoints and credentials are boto3's; the paginator too, so that a starting token means here what it means to
the AWS CLI. Two things are added: the proof that a response is a page, and the patience that repeats one request.
"""

import logging
import threading
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import boto3
import botocore
import botocore.exceptions as boto
from botocore.config import Config
from botocore.paginate import PageIterator, TokenDecoder, TokenEncoder
from botocore.parsers import ResponseParserError

from etl.config import SourceSettings
from etl.errors import (
    ConfigError,
    EtlError,
    TokenRejectedError,
    TransientSourceError,
)
from etl.extract.parsed import MalformedPageError, plain_tokens, proof_hook, read_parsed_page
from etl.extract.patience import Patience
from etl.extract.raw import raw_page_hook, read_raw_page
from etl.extract.service_model import describe_operation, model_session
from etl.extract.vendor_errors import BAD_REQUEST, EXPIRED, translate
from etl.model import Dataset, Operation, Page, Slice

log = logging.getLogger(__name__)

_CLIENT_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 1},  # `Patience` repeats
    connect_timeout=10,
    read_timeout=60,
    max_pool_connections=64,
    # Given as a whole: botocore composes its own anew for every request, a sixth of the CPU of one.
    user_agent=f"nimble-etl Boto3/{boto3.__version__} Botocore/{botocore.__version__}",
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go. `credentials` (access key id, secret) only for a studio that we started ourselves."""

    url: str | None = None
    credentials: tuple[str, str] | None = None


class Source:
    """Fetches pages. Safe to use from several threads; one client per service and Region.

    Args:
        settings: the `source` part of the configuration.
        endpoint: where requests go.
        stop: ends every wait within seconds.
    """

    def __init__(self, settings: SourceSettings, endpoint: Endpoint, stop: threading.Event) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._patience = Patience(settings.retry, stop)
        self._lock = threading.Lock()
        self._session = self._new_session()
        self._models = model_session()
        self._operations: dict[str, Operation] = {}
        self._clients: dict[tuple[str, str], Any] = {}
        self._paginators: dict[tuple[str, str], Any] = {}

    @cached_property
    def account_id(self) -> str:
        """Return the account whose resources are listed: as configured, as the credentials say, or as STS says.

        Raises:
            EtlError: there are no credentials, or STS does not answer; translated like any other request.
        """
        if self._settings.account_id:
            return self._settings.account_id
        return self._patience.ask("account", self._ask_account)

    def _ask_account(self) -> str:
        try:
            credentials = self._session.get_credentials()
            if credentials is not None and getattr(credentials, "account_id", None):  # this may refresh them
                return str(credentials.account_id)
            return str(self._client("sts", self._settings.region).get_caller_identity()["Account"])
        except (ResponseParserError, KeyError) as exc:
            raise ConfigError(
                "account: the endpoint does not answer sts:GetCallerIdentity as AWS does; set source.account_id"
            ) from exc
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
        """Return the page that a starting token leads to, tried again while the source fails for a passing reason.

        Args:
            dataset: the dataset of the slice.
            slice_: the slice.
            number: the number that the page gets, from 1.
            starting_token: None for the first page.
            max_items: keep at most this many records; None for all.

        Raises:
            TransientSourceError: still failing when `source.retry.timeout` is over, or when told to stop.
            TokenRejectedError: the token is refused, although the same request without it works.
            SourceError, ConfigError: trying again cannot help.
        """
        place = f"{slice_}, page {number}"
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
                    # botocore never retries these; a long walk outlives what the process started with.
                    renewed = True
                    self._renew_credentials()
                    raise TransientSourceError(f"{place}: credentials have expired; asking for new ones") from exc
                if code in BAD_REQUEST and starting_token is not None:
                    raise self._judge_token(dataset, slice_, place) from exc
                raise translate(exc, place, _action(self.operation(dataset))) from exc
            except (boto.BotoCoreError, ResponseParserError) as exc:
                raise translate(exc, place, _action(self.operation(dataset))) from exc

        return self._patience.ask(place, once)

    def _request(  # noqa: PLR0913, PLR0917  the parts of one request
        self,
        dataset: Dataset,
        slice_: Slice,
        number: int,
        starting_token: str | None,
        max_items: int | None,
        tried: int,
    ) -> Page:
        """Ask once, through botocore's paginator."""
        # A new iterator for each page: an iterator that failed or was used before starts at its last token.
        operation = self.operation(dataset)
        parameters: dict[str, Any] = {**slice_.parameters, **dataset.parameters}
        limits = {"StartingToken": starting_token, "MaxItems": max_items}
        if max_items and operation.pager and not operation.pager.is_primary:
            raise ConfigError(f"{slice_}: max_items counts another list than {operation.pager.result!r}; leave it out")
        tokens = plain_tokens(starting_token) if starting_token else None
        if tokens and ((operation.pager and not max_items) or "None" in tokens.values()):
            # Pages are then taken whole: `max_items` counts from a starting token.
            parameters, limits = {**parameters, **tokens}, {}
        pages: PageIterator = self._paginator(dataset, slice_.region).paginate(
            **parameters, PaginationConfig={**limits, "PageSize": dataset.page_size}
        )
        if operation.pager:
            return read_parsed_page(dataset, operation, pages, number, tried)
        return read_raw_page(operation, pages, number, tried)

    def _judge_token(self, dataset: Dataset, slice_: Slice, place: str) -> EtlError:
        """Return the error for a refused token: no error of the API says «expired», so the first page decides."""
        try:
            self._request(dataset, slice_, 1, None, 1, 0)
        except (boto.ClientError, boto.BotoCoreError) as exc:
            return translate(exc, f"{place}, then the same request without a token", _action(self.operation(dataset)))
        return TokenRejectedError(f"{place}: the token is refused, the request without it works: it has expired")

    def _new_session(self) -> boto3.session.Session:
        key, secret = self._endpoint.credentials or (None, None)
        return boto3.session.Session(
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            botocore_session=model_session(),
            region_name=self._settings.region,
        )

    def _renew_credentials(self) -> None:
        with self._lock:
            self._session = self._new_session()
            self._clients.clear()
            self._paginators.clear()

    def _client(self, service: str, region: str, user: str = "") -> Any:
        """Return a client of a user's own: its hooks are those of one dataset."""
        with self._lock:
            if (user or service, region) not in self._clients:
                self._clients[user or service, region] = self._session.client(
                    service, region_name=region, endpoint_url=self._endpoint.url, config=_CLIENT_CONFIG
                )
            return self._clients[user or service, region]

    def _paginator(self, dataset: Dataset, region: str) -> Any:
        """Return boto3's paginator of the dataset's operation, with the raw-page hook in place."""
        client = self._client(dataset.service, region, f"dataset {dataset.name}")
        with self._lock:
            if (dataset.name, region) not in self._paginators:
                operation = self._operations[dataset.name]
                service_id = client.meta.service_model.service_id.hyphenize()
                hook = proof_hook(operation) if operation.pager else raw_page_hook(operation)
                client.meta.events.register(f"before-parse.{service_id}.{operation.name}", hook)
                self._paginators[dataset.name, region] = client.get_paginator(dataset.operation)
            return self._paginators[dataset.name, region]


def check_starting_token(token: str) -> str:
    """Return a starting token that botocore will read as what it says.

    botocore also takes old and raw forms, guessing: "None" starts again, "a___2" skips two records.

    Raises:
        ConfigError: the token is not in botocore's encoding.
    """
    try:
        decoded = TokenDecoder().decode(token)
    except (ValueError, AttributeError, TypeError):
        decoded = None
    if not isinstance(decoded, dict) or not decoded or TokenEncoder().encode(decoded) != token:
        raise ConfigError(
            "--starting-token: this is not a starting token; expected one as `nimble-etl run` or "
            "`aws … --max-items` prints it (base64 of a JSON object), not a service's own nextToken"
        )
    return token


@cache
def _action(operation: Operation) -> str:
    """Return the IAM action of an operation: nimble:ListStreamingSessions."""
    return f"{operation.service}:{operation.name}"
