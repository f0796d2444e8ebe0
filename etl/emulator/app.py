"""The wire: Nimble Studio's ten list operations over HTTP, as AWS answers them.

Paths, parameters, limits and statuses come from the service model, read as data. Also answers what STS, Organizations
and Account Management say about accounts; see `etl.emulator.organization`.

Page tokens are opaque, in the standard base64 alphabet (so they may hold + / =), and bound to operation, path
and
filters: a foreign, forged or expired one is a ValidationException. They survive a restart of the studio.
"""

import asyncio
import base64
import hmac
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from hashlib import sha256
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, parse_qsl

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from etl.emulator.faults import Call, FaultPlan
from etl.emulator.organization import Caller, Offices, Organization, RefusedError, json_error, sts_error
from etl.emulator.reply import Delivery, Reply, error_reply
from etl.emulator.signature import SignatureError, verify_signature
from etl.emulator.studio import UnknownResourceError
from etl.emulator.world import World

TRANSPORT = "studio.transport"
"""ASGI extension under which the server hands out its asyncio transport, so that a connection can be
reset."""

PAGE_CACHE_SIZE = 256
"""Encoded pages kept; about 100 KB each."""


@dataclass(frozen=True)
class StudioSettings:
    """How the studio answers.

    Attributes:
        page_size: most items on a page where the client does not ask for fewer, at least 1.
        latency_s: added to every answer, in seconds.
        token_lifetime_s: after which a page token is no longer accepted, in seconds; None: never.
        instant: at which the world stands, aware; None: it moves with the clock.
        now: the clock, aware: for signatures, token lifetimes and the Date header.
        request_log: file to which each request is appended as a line of JSON.
    """

    page_size: int = 100
    latency_s: float = 0.0
    token_lifetime_s: float | None = None
    instant: datetime | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    request_log: Path | None = None


class LoggedRequest(NamedTuple):
    """One request that was answered, or not.

    Attributes:
        sequence: from 1.
        operation: for example ListStreamingSessions; None where the path is unknown.
        parameters: of path and query, without the page token.
        token: page token as sent.
        status: HTTP status; 0 where no answer was sent.
        request_id: as in the x-amzn-RequestId header.
        fault: name of the fault that fired on it.
        account_id: that its credentials are of; None where they are not known.
        region: that it was signed for.
    """

    sequence: int
    operation: str | None
    parameters: dict[str, str | list[str]]
    token: str | None
    status: int
    request_id: str
    fault: str | None
    account_id: str | None = None
    region: str | None = None


class InvalidRequestError(Exception):
    """A request that is answered with a ValidationException."""


class Operation(NamedTuple):
    """A list operation as the service model has it.

    Attributes:
        name: for example ListStreamingSessions.
        path: with parameters in braces.
        result_key: name of the result list.
        query: shapes of the query parameters, by name.
    """

    name: str
    path: str
    result_key: str
    query: dict[str, dict[str, Any]]


class PageToken(NamedTuple):
    """Where a page starts.

    Attributes:
        position: in the listing.
        page: number of the page in its walk, from 1.
        issued_s: Unix time in seconds; 0 where tokens never expire.
        serial: tells apart tokens for the same page.
    """

    position: int
    page: int
    issued_s: int
    serial: int


class EmbeddedStudioApp:
    """The studio's state: what was asked, which faults fired, and at which instant the world stands.

    Attributes:
        asgi: the ASGI application.
        requests: every request so far, in the order of arrival.
        faults: what misbehaves.
        instant: at which the world stands, aware; None: it moves with the clock. May be set from another
            thread.
    """

    def __init__(
        self,
        world: World,
        settings: StudioSettings,
        faults: FaultPlan | None = None,
        organization: Organization | None = None,
    ) -> None:
        self.world = world
        self._offices = Offices(world, organization)
        self.settings = settings
        self.faults = faults or FaultPlan()
        self.instant = settings.instant
        self.requests: list[LoggedRequest] = []
        self._serials = count(1)
        place = f"{world.seed} {world.account_id} {world.region}"
        self._token_key = sha256(f"page tokens {place}".encode()).digest()
        self._cached_page = lru_cache(PAGE_CACHE_SIZE)(self._encode_page)
        routes = [Route(op.path, self._endpoint(op), methods=["GET"]) for op in load_operations()]
        routes.append(Route("/", self._offices_endpoint, methods=["POST"]))
        routes.append(Route("/listRegions", self._regions_endpoint, methods=["POST"]))
        self.asgi = Starlette(
            routes=routes,
            exception_handlers={404: self._unknown_endpoint, 405: self._unknown_endpoint},
        )

    def _endpoint(self, operation: Operation) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            query = parse_qs(request.url.query, keep_blank_values=True)
            sent_token = query.pop("nextToken", [None])[0]
            parameters: dict[str, Any] = dict(request.path_params)
            fault = caller = None
            try:
                _, caller = await self._authenticate(request, "nimble")
                parameters |= _parse_query(operation, query)
                path = request.scope["raw_path"].decode("ascii")
                reply, fault = self._list(operation, caller, path, parameters, sent_token)
            except SignatureError as error:
                reply = error_reply(403, error.code, error.message)
            except RefusedError as error:
                reply = error_reply(error.status, error.code, error.message)
            except InvalidRequestError as error:
                reply = error_reply(400, "ValidationException", str(error))
            except UnknownResourceError as error:
                reply = error_reply(404, "ResourceNotFoundException", f"Not found: {error}")
                owner = self._offices.owner_of(parameters.get("studioId"))
                if caller and owner not in (None, caller.account_id):
                    reply = error_reply(403, "AccessDeniedException", f"The studio is of account {owner}")
            return await self._respond(reply, operation.name, parameters, sent_token, fault, caller)

        return answer

    async def _offices_endpoint(self, request: Request) -> Response:
        """Answer STS, which sends a form, and Organizations, which sends JSON and names its action in a header."""
        target = request.headers.get("x-amz-target", "")
        as_error, operation = (json_error, target.partition(".")[2]) if target else (sts_error, "GetCallerIdentity")
        fault = caller = None
        account_id = ""
        try:
            body, caller = await self._authenticate(request, "organizations" if target else "sts")
            if target:
                asked = msgspec.json.decode(body or b"{}")
                reply = self._offices.organizations(caller, operation, asked, self.settings.page_size)
            else:
                form = dict(parse_qsl(body.decode(errors="replace")))
                operation = form.get("Action", operation)
                account_id = form.get("RoleArn", "").partition("::")[2].partition(":")[0]
                reply = self._offices.sts(caller, form, self.settings.now())
            reply, fault = self._spoil(reply, operation, account_id or caller.account_id, as_error)
        except (SignatureError, RefusedError) as error:
            reply = as_error(error.status if isinstance(error, RefusedError) else 403, error.code, error.message)
        return await self._respond(reply, operation, {}, None, fault, caller)

    async def _regions_endpoint(self, request: Request) -> Response:
        fault = caller = None
        try:
            body, caller = await self._authenticate(request, "account")
            reply = self._offices.regions(msgspec.json.decode(body or b"{}"), self.settings.page_size)
            reply, fault = self._spoil(reply, "ListRegions", caller.account_id, error_reply)
        except SignatureError as error:
            reply = error_reply(403, error.code, error.message)
        return await self._respond(reply, "ListRegions", {}, None, fault, caller)

    def _spoil(
        self, reply: Reply, operation: str, account_id: str, as_error: Callable[[int, str, str], Reply]
    ) -> tuple[Reply, str | None]:
        """Return what a fault makes of an answer that is no page of Nimble, and the fault's name."""
        call = Call(operation, "/", account_id, None, "", 1, None, None, None, "", dict)
        spoiled, fault = self.faults.apply(reply, call)
        if spoiled.status != reply.status:
            error = msgspec.json.decode(spoiled.body)
            spoiled = as_error(spoiled.status, error["code"], error["message"])
        return spoiled, fault

    async def _unknown_endpoint(self, request: Request, error: Exception) -> Response:
        message = f"No operation at {request.method} {request.url.path}"
        reply = error_reply(404, "UnknownOperationException", message)
        return await self._respond(reply, None, {}, None, None, None)

    async def _authenticate(self, request: Request, service: str) -> tuple[bytes, Caller]:
        """Return the body of a request that is signed for a service, and who has signed it.

        Raises:
            SignatureError: it is not.
        """
        body = await request.body()
        is_local = service == "nimble" and self._offices.organization is None
        claim = verify_signature(
            method=request.method,
            path=request.scope["raw_path"].decode("ascii"),
            query=request.scope["query_string"].decode("ascii"),
            headers=request.headers,
            body=body,
            now=self.settings.now(),
            region=self.world.region if is_local else None,
            keys=self._offices.keys,
        )
        if claim.service != service:
            message = f"Credential should be scoped to correct service: '{service}'."
            raise SignatureError("InvalidSignatureException", message)
        return body, Caller(claim.key.account_id, claim.region, claim.service)

    def _list(
        self, operation: Operation, caller: Caller, path: str, parameters: dict[str, Any], sent_token: str | None
    ) -> tuple[Reply, str | None]:
        """Return a page, or what a fault makes of it, and the fault's name.

        Raises:
            InvalidRequestError: a bad page token.
            UnknownResourceError: no such studio or launch profile.
            RefusedError: the account has not opted into the Region.
        """
        world = self._offices.world_of(caller)
        at = (self.instant or self.settings.now()).replace(microsecond=0)
        filters = {name: value for name, value in parameters.items() if name != "maxResults"}
        size = min(self.settings.page_size, parameters.get("maxResults", self.settings.page_size))
        where = "" if world is self.world else f" {world.account_id} {world.region}"
        bound_to = f"{operation.name} {path} {sorted(filters.items())}{where}".encode()
        issued_token = self.faults.issued_token(path, sent_token)
        here = self._open_token(issued_token, bound_to) if issued_token is not None else PageToken(0, 1, 0, 0)
        frozen = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in sorted(filters.items()))
        records, next_position = self._cached_page(world, operation.name, frozen, at, here.position, size)
        next_token = None
        page: dict[str, Any] = {operation.result_key: msgspec.Raw(records)}
        if next_position is not None:
            next_token = page["nextToken"] = self._issue_token(next_position, here.page + 1, 0, bound_to)
        reply = Reply(200, msgspec.json.encode(page))
        if not self.faults.rules:
            return reply, None

        def neighbour() -> dict[str, Any]:
            record = self._cached_page(world, operation.name, frozen, at, next_position or 0, 1)[0]
            first: dict[str, Any] = msgspec.json.decode(record)[0]
            return first

        call = Call(
            operation=operation.name,
            path=path,
            account_id=caller.account_id,
            studio_id=parameters.get("studioId"),
            result_key=operation.result_key,
            page=here.page,
            token=issued_token,
            previous_token=self.faults.previous_token(path, issued_token),
            next_token=next_token,
            spare_token=self._issue_token(here.position, here.page, next(self._serials), bound_to),
            neighbour=neighbour,
        )
        return self.faults.apply(reply, call)

    @staticmethod
    def _encode_page(  # noqa: PLR0913, PLR0917  what a page depends on
        world: World, operation: str, filters: tuple[tuple[str, Any], ...], at: datetime, position: int, size: int
    ) -> tuple[bytes, int | None]:
        page = world.page(operation, dict(filters), at, position, size)
        return msgspec.json.encode(page.records), page.next_position

    def _issue_token(self, position: int, page: int, serial: int, bound_to: bytes) -> str:
        issued_s = int(self.settings.now().timestamp()) if self.settings.token_lifetime_s is not None else 0
        payload = msgspec.json.encode(PageToken(position, page, issued_s, serial))
        return base64.b64encode(self._seal(payload, bound_to) + payload).decode()

    def _seal(self, payload: bytes, bound_to: bytes) -> bytes:
        return hmac.digest(self._token_key, payload + b" " + bound_to, "sha256")

    def _open_token(self, token: str, bound_to: bytes) -> PageToken:
        try:
            sealed = base64.b64decode(token, validate=True)
        except ValueError:
            sealed = b""
        seal, payload = sealed[:32], sealed[32:]
        if not hmac.compare_digest(seal, self._seal(payload, bound_to)):
            raise InvalidRequestError("Invalid nextToken")
        opened = msgspec.json.decode(payload, type=PageToken)
        lifetime_s = self.settings.token_lifetime_s
        if lifetime_s is not None and self.settings.now().timestamp() - opened.issued_s > lifetime_s:
            raise InvalidRequestError("Invalid nextToken: it has expired")
        return opened

    async def _respond(  # noqa: PLR0913, PLR0917  what is logged
        self,
        reply: Reply,
        operation: str | None,
        parameters: dict[str, Any],
        token: str | None,
        fault: str | None,
        caller: Caller | None,
    ) -> Response:
        sequence = len(self.requests) + 1
        request_id = f"{sequence:08x}-0000-4000-8000-{self.world.seed % 16**12:012x}"
        status = 0 if reply.delivery in (Delivery.RESET, Delivery.STALLED) else reply.status
        logged = LoggedRequest(sequence, operation, parameters, token, status, request_id, fault, *(caller or ())[:2])
        self.requests.append(logged)
        if self.settings.request_log:
            with self.settings.request_log.open("ab") as log:
                log.write(msgspec.json.encode(logged._asdict()) + b"\n")
        if self.settings.latency_s:
            await asyncio.sleep(self.settings.latency_s)
        headers = {
            "Content-Type": "application/json",
            "Date": format_datetime(self.settings.now(), usegmt=True),
            "x-amzn-RequestId": request_id,
            **reply.headers,
        }
        return _WireResponse(replace(reply, headers=headers))


class _WireResponse(Response):
    """Puts a reply on the socket, or as much of it as its delivery says."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.body, reply.status, reply.headers)
        self._delivery = reply.delivery

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match self._delivery:
            case Delivery.WHOLE:
                await super().__call__(scope, receive, send)
            case Delivery.TRUNCATED:
                half = bytes(self.body[: len(self.body) // 2])
                start = {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
                await send(start)
                # Leaving with more to come makes the server close the connection.
                await send({"type": "http.response.body", "body": half, "more_body": True})
            case Delivery.RESET:
                _reset(scope["extensions"][TRANSPORT]["transport"])
                await _disconnected(receive)
            case Delivery.STALLED:
                await _disconnected(receive)


def _reset(transport: asyncio.Transport) -> None:
    # Lingering for no time at all makes the kernel send RST instead of FIN.
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def load_operations() -> list[Operation]:
    """Return the list operations of the bundled service model."""
    folder = resources.files("etl").joinpath("extract/service_models/nimble/2020-08-01")
    model = msgspec.json.decode(folder.joinpath("service-2.json").read_bytes())
    paginators = msgspec.json.decode(folder.joinpath("paginators-1.json").read_bytes())["pagination"]
    shapes = model["shapes"]

    def resolve(name: str) -> dict[str, Any]:
        shape: dict[str, Any] = shapes[name]
        return shape | {"member": resolve(shape["member"]["shape"])} if shape["type"] == "list" else shape

    return [
        Operation(
            name=name,
            path=operation["http"]["requestUri"],
            result_key=paginators[name]["result_key"],
            query={
                parameter: resolve(member["shape"])
                for parameter, member in shapes[operation["input"]["shape"]]["members"].items()
                if member["location"] == "querystring"
            },
        )
        for name, operation in model["operations"].items()
    ]


def _parse_query(operation: Operation, query: dict[str, list[str]]) -> dict[str, Any]:
    """Return the known query parameters by their types; unknown ones are ignored, as AWS does.

    Raises:
        InvalidRequestError: a value breaks a limit of the service model.
    """
    parsed: dict[str, Any] = {}
    for name, values in query.items():
        if shape := operation.query.get(name):
            if shape["type"] == "list":
                parsed[name] = [_parse(name, value, shape["member"]) for value in values]
            else:
                parsed[name] = _parse(name, values[0], shape)
    return parsed


def _parse(name: str, text: str, shape: dict[str, Any]) -> str | int:
    """Return one value, checked against type, enum, pattern and limits of its shape.

    Raises:
        InvalidRequestError: it breaks one of them.
    """
    value: str | int = text
    if shape["type"] == "integer":
        try:
            value = int(text)
        except ValueError:
            raise InvalidRequestError(f"Value '{text}' at '{name}' is not an integer") from None
    measure = value if isinstance(value, int) else len(value)
    broken = (
        ("min" in shape and measure < shape["min"] and f"be at least {shape['min']}")
        or ("max" in shape and measure > shape["max"] and f"be at most {shape['max']}")
        or ("enum" in shape and value not in shape["enum"] and f"be one of {shape['enum']}")
        or ("pattern" in shape and not re.search(shape["pattern"], text) and f"match {shape['pattern']}")
    )
    if broken:
        message = f"1 validation error detected: Value '{text}' at '{name}' failed to satisfy constraint: "
        raise InvalidRequestError(f"{message}Member must {broken}")
    return value
