"""One page of one list operation, through boto3; every error of botocore is translated into one of ours.

boto3 does the signing, finds endpoints and credentials, and paginates; a starting token therefore means the same here
as in the AWS CLI. This room adds the proof that a response is a page, and the patience that repeats a request.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import botocore.exceptions as boto
from botocore.model import OperationModel
from botocore.paginate import PageIterator, Paginator

from etl.config import OPTED_IN, SourceSettings
from etl.errors import (
    ConfigError,
    CredentialsError,
    EtlError,
    SameAnswerError,
    SourceError,
    TokenRejectedError,
    ToleratedError,
    TransientSourceError,
)
from etl.events import working_on
from etl.extract.accounts import Accounts, Signer, asking_as
from etl.extract.caller import Caller
from etl.extract.clients import Clients, Endpoint
from etl.extract.followup import FollowUp, find_follow_up, keep_requests
from etl.extract.pace import Paces
from etl.extract.paging import Paging
from etl.extract.parsed import MalformedPageError, proof_hook, read_parsed_page
from etl.extract.patience import Begun, Patience
from etl.extract.places import Places
from etl.extract.raw import raw_page, raw_page_hook, read_raw_page
from etl.extract.service_model import dataset_paging, describe_operation, model_session
from etl.extract.tokens import plain_tokens, sent_token
from etl.extract.vendor_errors import EXPIRED, UNKNOWN_KEY, answer, is_passing, may_mean_the_token, translate
from etl.model import Dataset, Operation, Page, Slice

log = logging.getLogger(__name__)

_SAME_ANSWERS = 4
"""So many equal answers without a list, and it is no accident."""
SLOW_S = 0.01
"""An answer that takes longer is slow: longer than storing a page."""
_HEAD_START_S = 0.002
"""How long the thread that stores a page waits while the request for the next one is signed and sent.

Otherwise two threads would take turns at the interpreter, and the request would leave 1 ms later.
"""
_proof: ContextVar[Callable[..., None]] = ContextVar("hook that proves the page of the request under way")


class Source:
    """Fetches pages, by the `source` part of the configuration. `stop` ends every wait within seconds.

    Safe to use from several threads. It keeps one client per service and Region, for all accounts. Until it has the
    first page, what is wrong with credentials is a ConfigError; from then on, the run can be resumed with better ones.
    If the configuration names accounts or Regions, what is wrong with one of them costs only the slices there.
    """

    def __init__(self, settings: SourceSettings, endpoint: Endpoint, stop: threading.Event) -> None:
        self._settings = settings
        self._patience = Patience(settings.retry, stop)
        self._lock = threading.RLock()
        # Not the other one: whoever has that may ask for what hides secrets, which needs this.
        self._loading = threading.Lock()
        self.endpoint = endpoint
        self._caller = Caller(settings, self._patience, lambda: self._clients_of(None), self._told)
        self._profiles: dict[str | None, Clients] = {None: Clients(settings, endpoint)}
        self._clients = self._profiles[None]
        self._models = model_session()
        self._operations: dict[str, Operation] = {}
        self._without_list: dict[tuple[str, int], list[object]] = {}
        self._proofs: dict[str, Callable[..., None]] = {}
        self._made: dict[tuple[str, str], Any] = {}
        self._mine = threading.local()
        self._follow_ups: dict[str, FollowUp] = {}
        self._paginators: dict[tuple[str, str], tuple[Paginator, Paging, frozenset[str]]] = {}
        self._has_walked = False
        self._answered_in_s = 0.0
        self._places = Places(settings)
        self._paces = Paces(settings.retry)
        self._accounts: Accounts | None = None
        if self._places.given:
            self._accounts = Accounts(
                settings, self._places.partition, self._clients_of, self._caller.account_of, lambda: self.account_id
            )
            self._clients = Clients(settings, endpoint, signer=Signer(self._accounts))

    @property
    def account_id(self) -> str:
        """Return the account whose resources are listed, as `Caller.account_id`."""
        return self._caller.account_id

    def endpoint_of(self, dataset: Dataset) -> str | None:
        """Return the endpoint that is in force for a dataset; None: the one that AWS has for the service."""
        return self._clients.endpoint_of(dataset.service)

    def _clients_of(self, profile: str | None) -> Clients:
        """Return what makes clients with the credentials of a profile; None: those of this job."""
        with self._loading:
            if profile not in self._profiles:
                self._profiles[profile] = Clients(self._settings, self.endpoint, profile=profile)
            return self._profiles[profile]

    def operation(self, dataset: Dataset) -> Operation:
        """Return what the service model says about a dataset's operation."""
        with self._lock:
            if dataset.name not in self._operations:
                self._operations[dataset.name] = describe_operation(self._models, dataset)
            return self._operations[dataset.name]

    def expect_page(self, dataset: Dataset, slice_: Slice, number: int, starting_token: str) -> None:
        """Begin to ask for the page that this thread fetches next, if answers take longer than storing a page.

        Otherwise two threads would be busy at once, which costs Python more than it gains. What shares a pace, or
        changes its values, waits.
        """
        is_slow = self._answered_in_s > SLOW_S
        if is_slow and self._accounts is None and not (dataset.for_each and dataset.for_each.batch):
            once, _ = self._requests(dataset, slice_, number, starting_token, None)
            begun = self._patience.begin(once)
            begun.is_there(_HEAD_START_S)
            self._mine.expected = (slice_, number, starting_token, None), once, begun

    def fetch_page(
        self, dataset: Dataset, slice_: Slice, number: int, starting_token: str | None, max_items: int | None
    ) -> Page:
        """Return the page that a starting token leads to. The request is repeated while it fails for a passing reason.

        `number` counts pages from 1. Without a starting token, this is the first page. The page keeps at most
        `max_items` records; None keeps all.

        Raises:
            TransientSourceError: it still fails after `source.retry.timeout`, or at the order to stop.
            CredentialsError: the credentials do not serve any more, nor those that are there by now.
            TokenRejectedError: the service refuses the token, but answers the same request without it.
            SourceError, ConfigError: repeating the request cannot help.
        """
        place = f"{slice_}, page {number}"
        once, asked = self._requests(dataset, slice_, number, starting_token, max_items)
        begun: Begun[Page] | None = None
        expected, self._mine.expected = getattr(self._mine, "expected", None), None
        if expected and expected[0] == (slice_, number, starting_token, max_items):
            _, once, begun = expected
        with working_on(page=number):
            if self._accounts is None:
                page = self._patience.ask(place, once, begun)
            else:
                key = slice_.account_id, slice_.region, dataset.service
                page = self._paces.ask(key, slice_.slice_id, place, asked)
        return replace(page, received_at=page.received_at + ahead) if (ahead := self.endpoint.clock_ahead) else page

    def _requests(
        self, dataset: Dataset, slice_: Slice, number: int, starting_token: str | None, max_items: int | None
    ) -> tuple[Callable[[], Page], Callable[[int], Page]]:
        """Return what asks for a page once, and what asks for one of many accounts after so many failures."""
        place = f"{slice_}, page {number}"
        action = f"{dataset.service}:{self.operation(dataset).name}"  # the IAM action, nimble:ListStreamingSessions
        tries, renewed = 0, False
        with self._lock:
            answers = self._without_list.setdefault((slice_.slice_id, number), [])

        def once() -> Page:
            nonlocal tries, renewed
            tries, began = tries + 1, time.monotonic()
            with self._told(place, action, dataset, starting_token):
                try:
                    page = self._request(dataset, slice_, number, starting_token, max_items, tries - 1)
                except MalformedPageError as exc:
                    answers.append(exc.without_list)
                    if exc.without_list and answers[-_SAME_ANSWERS:] == [exc.without_list] * _SAME_ANSWERS:
                        answers.clear()
                        raise SameAnswerError(f"{exc}; {_SAME_ANSWERS} answers were the same") from exc
                    raise
                except boto.ClientError as exc:
                    code = exc.response["Error"].get("Code", "")
                    if code in EXPIRED | UNKNOWN_KEY and not renewed:
                        # botocore does not retry this; a long walk outlives the credentials that it began with.
                        renewed = True
                        self._renew_credentials(slice_.account_id)
                        self._clients.redact(exc, sent_token(starting_token))
                        raise TransientSourceError(
                            f"{place}: {answer(exc, action)}; the credentials are loaded once more"
                        ) from exc
                    if starting_token is not None and may_mean_the_token(exc, self._model(dataset)):
                        raise self._judge_token(dataset, slice_, place, action) from exc
                    self._clients.redact(exc, sent_token(starting_token))
                    if error := self._refusal(exc, place, action, dataset, slice_):
                        raise error from exc
                    raise
                self._has_walked, self._answered_in_s = True, time.monotonic() - began
                self._without_list.pop((slice_.slice_id, number), None)
                return page

        def asked(failed: int) -> Page:
            nonlocal tries, renewed
            tries = failed
            try:
                try:
                    return self._patience.ask_once(place, once)
                except TransientSourceError as exc:
                    if not renewed and not isinstance(exc, CredentialsError):
                        raise
                if not renewed:
                    renewed = True
                    self._renew_credentials(slice_.account_id)
                return self._patience.ask_once(place, once)
            except ConfigError as exc:
                raise SourceError(str(exc)) from exc  # it costs only what is listed there

        return once, asked

    def _refusal(
        self, exc: boto.ClientError, place: str, action: str, dataset: Dataset, slice_: Slice
    ) -> EtlError | None:
        """Return the error for a refusal that a dataset tolerates, or that one account and Region explain."""
        code = exc.response["Error"].get("Code", "")
        if code in dataset.tolerate and not is_passing(exc, self._model(dataset)):
            return ToleratedError(f"{place}: {answer(exc, action)}; the dataset tolerates that")
        if code in UNKNOWN_KEY and self._accounts:
            return SourceError(
                f"{place}: {answer(exc, action)}; has account {slice_.account_id} opted into {slice_.region}? "
                f"`regions: [{OPTED_IN}]` leaves out a Region that it has not"
            )
        return None

    def wait_s(self, service: str, slice_: Slice, running: int) -> float:
        """Return how long not to begin the walk of a slice because its place asks for fewer requests; see `Paces`."""
        return self._paces.wait_s((slice_.account_id, slice_.region, service), running)

    @contextmanager
    def _told(
        self, place: str, action: str, dataset: Dataset | None = None, starting_token: str | None = None
    ) -> Iterator[None]:
        """Make whatever a request raises inside the block one of our errors: with its place, without secrets."""
        try:
            yield
        except Exception as exc:
            if not isinstance(exc, EtlError):
                self._clients.redact(exc, sent_token(starting_token))
            error = exc if isinstance(exc, EtlError) else translate(exc, place, action, self._model(dataset))
            if not str(error).startswith(place):
                error.args = (f"{place}: {error}",)
            if isinstance(error, CredentialsError) and not self._has_walked and self._accounts is None:
                error = ConfigError(str(error))
            if error is exc:
                raise
            raise error from exc

    def _model(self, dataset: Dataset | None) -> OperationModel | None:
        if dataset is None:
            return None
        with self._lock:
            return self._models.get_service_model(dataset.service).operation_model(self.operation(dataset).name)

    def _request(  # noqa: PLR0913, PLR0917  the parts of one request
        self, dataset: Dataset, slice_: Slice, number: int, token: str | None, max_items: int | None, tried: int
    ) -> Page:
        """Ask once, through a new iterator of botocore's paginator: a used one would start at its last token."""
        proof = _proof.set(self._proof_of(dataset))
        try:
            with asking_as(slice_.account_id):
                return self._ask(dataset, slice_, number, token, max_items, tried)
        finally:
            _proof.reset(proof)

    def _ask(  # noqa: PLR0913, PLR0917  as `_request`
        self, dataset: Dataset, slice_: Slice, number: int, token: str | None, max_items: int | None, tried: int
    ) -> Page:
        operation = self.operation(dataset)
        paginator, paging, lists = self._paginator(dataset, self._places.region_of_requests(slice_.region))
        bound = {name: [value] if name in lists else value for name, value in slice_.parameters.items()}
        parameters: dict[str, Any] = {**bound, **dataset.parameters}
        limits = {"StartingToken": token, "MaxItems": max_items}
        if max_items and operation.pager and not operation.pager.is_primary:
            raise ConfigError(f"{slice_}: max_items counts another list than {operation.pager.result!r}; leave it out")
        tokens = plain_tokens(token) if token else None
        follow_up = self._follow_ups.get(slice_.slice_id)
        if follow_up and max_items is None and tokens and tokens.keys() == {operation.input_token}:
            page = raw_page(operation, follow_up.ask(tokens[operation.input_token]), number, tried)
        else:
            if tokens and ((operation.pager and not max_items) or "None" in tokens.values()):
                # `max_items` counts from a starting token. With plain tokens there is none, so the page is taken whole.
                parameters, limits = {**parameters, **tokens}, {}
            pages: PageIterator = paginator.paginate(
                **parameters,
                **paging.parameters,
                PaginationConfig={**limits, "PageSize": dataset.page_size or operation.page_size},
            )
            if operation.pager:
                page = read_parsed_page(dataset, operation, pages, number, tried)
            else:
                page = read_raw_page(operation, pages, number, tried)
                follow_up = find_follow_up(operation) if page.next_starting_token else None
        if follow_up and page.next_starting_token:
            self._follow_ups[slice_.slice_id] = follow_up
        else:
            self._follow_ups.pop(slice_.slice_id, None)
        if paging.ends_with_same_token and token is not None and page.next_starting_token == token:
            return replace(page, next_starting_token=None)
        return page

    def _judge_token(self, dataset: Dataset, slice_: Slice, place: str, action: str) -> EtlError:
        """Return the error for a refused token: the same request without a token decides. It costs only this slice."""
        try:
            with self._told(f"{place}, then the same request without a token", action, dataset):
                self._request(dataset, slice_, 1, None, None, 0)
        except EtlError as exc:
            return SourceError(str(exc)) if isinstance(exc, ConfigError) else exc
        return TokenRejectedError(f"{place}: the token is refused, the request without it works: it has expired")

    def _renew_credentials(self, account_id: str) -> None:
        if self._accounts:
            self._accounts.renew(account_id)
            return
        with self._lock:
            self._clients.renew()
            self._made.clear()
            self._paginators.clear()
            self._follow_ups.clear()

    def _paginator(self, dataset: Dataset, region: str) -> tuple[Paginator, Paging, frozenset[str]]:
        """Return botocore's paginator of the dataset's operation, how it pages, and which parameters take a list.

        The paginator's client is the one that its service and Region have.
        """
        with self._lock:
            if (dataset.name, region) not in self._paginators:
                client = self._client(dataset.service, region)
                paging, model = dataset_paging(self._models, dataset)
                paginator = paging.paginator(getattr(client, dataset.operation), model)
                members = model.input_shape.members if model.input_shape else {}
                lists = frozenset(name for name, shape in members.items() if shape.type_name == "list")
                self._paginators[dataset.name, region] = paginator, paging, lists
            return self._paginators[dataset.name, region]

    def _proof_of(self, dataset: Dataset) -> Callable[..., None]:
        with self._lock:
            if dataset.name not in self._proofs:
                operation = self.operation(dataset)
                hook = proof_hook(operation) if operation.pager else raw_page_hook(operation)
                self._proofs[dataset.name] = hook
            return self._proofs[dataset.name]

    def _client(self, service: str, region: str) -> Any:
        if (service, region) not in self._made:
            client = self._made[service, region] = self._clients.make(service, region)
            service_id = client.meta.service_model.service_id.hyphenize()
            client.meta.events.register(f"before-parse.{service_id}", _prove)
            keep_requests(client)
        return self._made[service, region]


def _prove(**event: Any) -> None:
    """Handle botocore's before-parse event: the client is shared, and each dataset proves its pages its own way."""
    _proof.get()(**event)
