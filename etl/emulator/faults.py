"""Misbehaviour on demand, scripted or seeded.

A `Fault` turns a good reply into a bad one. A `FaultRule` says when; it is written as a short text:

    throttle                                                the first request, once
    throttle:operation=ListStreamingSessions,request=3,times=5
    vanish:studio=us-west-2-abcdefg123,request=4            from the fourth request of that studio on
    access-denied:account=200000000003,operation=AssumeRole no credentials for an account, once
    null-token:page=last                                    the last page of a walk
    seed=42,rate=0.05                                       any of RANDOM, at 5 % of all requests
    seed=42,rate=0.05,kinds=throttle+reset

`request` counts the requests that match operation, studio and account, from 1; `page` counts the pages of a walk, from
1; `times` is a number or `ever`. A seeded rule decides by what is asked for (operation, studio, page, how
often), not by when: the order in which concurrent walks arrive does not matter.

Every fault that fires is recorded, so that a test can prove it.
"""

import base64
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import blake2b
from typing import Any, NamedTuple

from etl.emulator.reply import Delivery, Reply, error_reply


@dataclass(frozen=True)
class Call:
    """One authenticated request that asks for a page, and what a fault may need to know about it.

    Attributes:
        operation: for example ListStreamingSessions.
        path: with its parameters filled in.
        account_id: that is asked for.
        studio_id: None where the operation has none.
        result_key: name of the result list.
        page: number of the page in its walk, from 1.
        token: that was sent, as the studio issued it.
        previous_token: that was sent for the page before.
        next_token: of a good reply.
        spare_token: another token for the page asked for; every call makes a fresh one.
        neighbour: returns the first record of the page that follows, in wire form.
    """

    operation: str
    path: str
    account_id: str
    studio_id: str | None
    result_key: str
    page: int
    token: str | None
    previous_token: str | None
    next_token: str | None
    spare_token: str
    neighbour: Callable[[], dict[str, Any]]


Fault = Callable[[Reply, Call], Reply]
"""Turns a good reply into a bad one."""


def _change(edit: Callable[[dict[str, Any], Call], None]) -> Fault:
    """Return a fault that edits the parsed body."""

    def fault(reply: Reply, call: Call) -> Reply:
        page: dict[str, Any] = json.loads(reply.body)
        edit(page, call)
        # ASCII only: a lone surrogate has no UTF-8, but it has an escape.
        return replace(reply, body=json.dumps(page, ensure_ascii=True, separators=(",", ":")).encode())

    return fault


def _body(body: bytes, **headers: str) -> Fault:
    return lambda reply, call: replace(reply, body=body, headers={**reply.headers, **headers})


def _error(status: int, code: str, message: str) -> Fault:
    return lambda reply, call: error_reply(status, code, message)


def _deliver(delivery: Delivery) -> Fault:
    return lambda reply, call: replace(reply, delivery=delivery)


def _next_token(choose: Callable[[Call], str | None]) -> Fault:
    return _change(lambda page, call: page.update(nextToken=choose(call)))


def _first_record(edit: Callable[[dict[str, Any]], None]) -> Fault:
    return _change(lambda page, call: edit(page[call.result_key][0]))


def _neighbour(edit: Callable[[dict[str, Any]], None]) -> Fault:
    """Return a fault that ends the page with the first record of the next page, edited."""

    def append(page: dict[str, Any], call: Call) -> None:
        record = call.neighbour()
        edit(record)
        page[call.result_key].append(record)

    return _change(append)


def _no_list(page: dict[str, Any], call: Call) -> None:
    del page[call.result_key]


def _empty_page(page: dict[str, Any], call: Call) -> None:
    page[call.result_key] = []
    page["nextToken"] = call.spare_token


def _empty_list(page: dict[str, Any], call: Call) -> None:
    page[call.result_key] = []
    page.pop("nextToken", None)


def _newer(record: dict[str, Any]) -> None:
    updated_at = datetime.fromisoformat(record["updatedAt"]) + timedelta(seconds=1)
    record |= {"updatedAt": f"{updated_at:%Y-%m-%dT%H:%M:%SZ}", "statusMessage": "a newer version"}


def _bad_timestamp(record: dict[str, Any]) -> None:
    record[next(name for name in record if name.endswith("At"))] = "soon"


def _odd_timestamps(record: dict[str, Any]) -> None:
    """Write the same instants in the other forms that JSON services use."""
    forms: tuple[Callable[[datetime], Any], ...] = (
        lambda at: at.timestamp(),
        lambda at: f"{at:%Y-%m-%dT%H:%M:%S}.000Z",
        lambda at: f"{at + timedelta(hours=5, minutes=30):%Y-%m-%dT%H:%M:%S}+05:30",
    )
    for number, name in enumerate(name for name in record if name.endswith("At")):
        record[name] = forms[number % len(forms)](datetime.fromisoformat(record[name]))


def _number_as_string(page: dict[str, Any], call: Call) -> None:
    record = next(record for record in page[call.result_key] if "volumeConfiguration" in record)
    record["volumeConfiguration"]["size"] = str(record["volumeConfiguration"]["size"])


def _hostile_ids(record: dict[str, Any]) -> None:
    for name in record:
        if name.endswith(("Id", "By")):
            record[name] = f"../../{name}/a=b'\"\n%2e%2e;drop table x"


HOSTILE_TAGS = {
    "Name": "upper",
    "name": "lower",
    "": "empty key",
    "empty value": "",
    "emoji 🎬": "🦊",
    "nul \0": "\0",
    "surrogate": "\ud800",
    "../../x": "a=b&c",
    "'; drop table x; --": '"quoted"\n',
}

FAULTS: Mapping[str, Fault] = {
    # errors that say so
    "throttle": _error(429, "ThrottlingException", "Rate exceeded"),
    "internal-error": _error(500, "InternalServerErrorException", "Internal error"),
    "unavailable": _error(503, "ServiceUnavailableException", "Service unavailable"),
    "access-denied": _error(403, "AccessDeniedException", "User is not authorized to perform this action"),
    "quota": _error(402, "ServiceQuotaExceededException", "Quota exceeded"),
    "expired-credentials": _error(403, "ExpiredTokenException", "The security token in the request is expired"),
    "expired-token": _error(400, "ValidationException", "Invalid nextToken"),
    "vanish": _error(404, "ResourceNotFoundException", "Studio not found"),
    "clock-skew": lambda reply, call: error_reply(
        403,
        "InvalidSignatureException",
        "Signature expired: the request is not within 5 min. of the server's time",
        Date=format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True),
    ),
    # the wire
    "reset": _deliver(Delivery.RESET),
    "stall": _deliver(Delivery.STALLED),
    "truncate": _deliver(Delivery.TRUNCATED),
    # status 200, but no page
    "html": _body(b"<html><body>Please sign in</body></html>", **{"Content-Type": "text/html"}),
    "empty-body": _body(b""),
    "empty-object": _body(b"{}"),
    "null-list": _change(lambda page, call: page.update({call.result_key: None})),
    "missing-list": _change(_no_list),
    "wrong-type": _change(lambda page, call: page.update({call.result_key: {"items": []}})),
    "bad-utf8": lambda reply, call: replace(reply, body=reply.body[:-2] + b"\xff\xfe" + reply.body[-2:]),
    "bad-gzip": lambda reply, call: replace(
        reply, body=gzip.compress(reply.body)[:-9] + b"corrupted", headers={"Content-Encoding": "gzip"}
    ),
    # page tokens
    "repeat-token": _next_token(lambda call: call.token),
    "cycle-tokens": _next_token(lambda call: call.previous_token),
    "endless-tokens": _next_token(lambda call: call.spare_token),
    "empty-page": _change(_empty_page),
    "empty-list": _change(_empty_list),
    "empty-token": _next_token(lambda call: ""),
    "null-token": _next_token(lambda call: None),
    "token-none": _next_token(lambda call: "None"),
    "token-underscores": _next_token(lambda call: "a___2"),
    "token-scalar": _next_token(lambda call: base64.b64encode(b"7").decode()),
    "token-long": _next_token(lambda call: (call.spare_token * 200)[:8_192]),
    "token-symbols": _next_token(lambda call: "a&b=c+d/e%2F%f g=?#"),
    # records
    "duplicate": _neighbour(lambda record: None),
    "conflict": _neighbour(lambda record: record.update(statusMessage="another version of the same instant")),
    "newer-duplicate": _neighbour(_newer),
    "unknown-enum": _first_record(lambda record: record.update(state="HIBERNATED")),
    "unknown-member": _first_record(lambda record: record.update(gpu={"model": "A10G", "count": 1})),
    "bad-timestamp": _first_record(_bad_timestamp),
    "odd-timestamps": _first_record(_odd_timestamps),
    "number-as-string": _change(_number_as_string),
    "nested-type": _first_record(lambda record: record.update(volumeConfiguration="gp3")),
    "hostile-tags": _first_record(lambda record: record.update(tags=HOSTILE_TAGS)),
    "many-tags": _first_record(lambda record: record.update(tags={f"key-{n}": str(n) for n in range(10_000)})),
    "hostile-ids": _first_record(_hostile_ids),
}

LASTING = {"vanish", "cycle-tokens", "endless-tokens"}
"""Faults that, once they began, do not stop, unless `times` says so."""

CONTINUED = {"repeat-token", "expired-token"}
"""Faults of calls with a page token: there is nothing to repeat or to expire on a first page."""

ENDING = {"empty-token", "null-token"}
"""Faults of last pages: anywhere else they would hide the pages that follow, and nobody could tell."""

MIDWAY = {"duplicate", "conflict", "newer-duplicate", *(name for name in FAULTS if name.startswith("token-"))}
"""Faults of pages that another page follows."""

RANDOM = (
    *("throttle", "internal-error", "unavailable", "reset", "truncate", "html", "empty-body", "empty-object"),
    *(
        "null-list",
        "missing-list",
        "wrong-type",
        "bad-utf8",
        "bad-gzip",
        "empty-page",
        "duplicate",
        "conflict",
    ),
)
"""Faults of a seeded rule: a repetition of the request cures each of them, or nothing needs a cure."""


class FaultSpecError(ValueError):
    """A rule that cannot be understood."""


@dataclass(frozen=True)
class FaultRule:
    """When which fault fires.

    Attributes:
        kind: name of a fault; None: a seeded choice among `kinds`.
        operation: None matches any.
        studio: id; None matches any.
        account: 12 digits; None matches any.
        request: first matching request that is hit, from 1.
        page: page number that is hit, from 1; "last"; None: any.
        times: how often it fires at most; None: for ever.
        rate: share of matching requests that a seeded rule hits, 0 to 1.
        seed: of a seeded rule.
        kinds: that a seeded rule chooses from.
    """

    kind: str | None = None
    operation: str | None = None
    studio: str | None = None
    account: str | None = None
    request: int = 1
    page: int | str | None = None
    times: int | None = None
    rate: float = 1.0
    seed: int = 0
    kinds: tuple[str, ...] = RANDOM

    @classmethod
    def parse(cls, text: str) -> "FaultRule":
        """Read a rule as the module's docstring writes it.

        Raises:
            FaultSpecError: naming the part that cannot be understood.
        """
        kind, _, rest = text.partition(":") if "=" not in text.partition(":")[0] else ("", "", text)
        values: dict[str, Any] = {"kind": kind or None}
        if kind and kind not in LASTING:
            values["times"] = 1
        for part in filter(None, rest.split(",")):
            name, _, value = part.partition("=")
            try:
                values[name] = _READERS[name](value)
            except (KeyError, ValueError):
                expected = ", ".join(_READERS)
                raise FaultSpecError(f"fault {text!r}: cannot read {part!r}; keys are {expected}") from None
        rule = cls(**values)
        unknown = [name for name in (*rule.kinds, kind) if name and name not in FAULTS]
        if unknown or not (kind or "rate" in values):
            what = f"no fault is called {unknown[0]!r}" if unknown else "neither a fault nor a rate is given"
            raise FaultSpecError(f"fault {text!r}: {what}; faults are {', '.join(FAULTS)}")
        return rule

    def covers(self, call: Call) -> bool:
        """Return whether the call is one that this rule counts."""
        # What is not about studios must be named: counts of requests are about pages of Nimble.
        named = self.operation == call.operation or (self.operation is None and bool(call.result_key))
        return named and self.studio in (None, call.studio_id) and self.account in (None, call.account_id)

    def is_on_page(self, call: Call) -> bool:
        """Return whether the call asks for the page that this rule is about."""
        return call.next_token is None if self.page == "last" else self.page in (None, call.page)


_READERS: Mapping[str, Callable[[str], Any]] = {
    "operation": str,
    "studio": str,
    "account": str,
    "request": int,
    "page": lambda text: text if text == "last" else int(text),
    "times": lambda text: None if text == "ever" else int(text),
    "rate": float,
    "seed": int,
    "kinds": lambda text: tuple(text.split("+")),
}


class Fired(NamedTuple):
    """A fault that fired: what, and on which call."""

    kind: str
    operation: str
    studio_id: str | None
    page: int


@dataclass
class FaultPlan:
    """Rules, in order, and what they did so far. For one thread.

    Attributes:
        rules: the first that wants to fire does; at most one fault per request.
        fired: what fired, in order.
    """

    rules: tuple[FaultRule, ...] = ()
    fired: list[Fired] = field(default_factory=list)
    _seen: Counter[int] = field(default_factory=Counter)
    _hits: Counter[int] = field(default_factory=Counter)
    _asked: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    _issued_for: dict[tuple[str, str], str | None] = field(default_factory=dict)
    _aliases: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def parse(cls, specs: Iterable[str]) -> "FaultPlan":
        """Read rules as the module's docstring writes them.

        Raises:
            FaultSpecError: a rule cannot be understood.
        """
        return cls(tuple(FaultRule.parse(spec) for spec in specs))

    def issued_token(self, path: str, token: str | None) -> str | None:
        """Return the studio's own token behind one that a fault made up."""
        return None if token is None else self._aliases.get((path, token), token)

    def previous_token(self, path: str, token: str | None) -> str | None:
        """Return the token that was sent for the page which ended with this token."""
        return None if token is None else self._issued_for.get((path, token))

    def apply(self, reply: Reply, call: Call) -> tuple[Reply, str | None]:
        """Return what to answer instead of a good reply, and the name of the fault, if one fires."""
        if not self.rules:
            return reply, None
        if call.next_token is not None:
            self._issued_for.setdefault((call.path, call.next_token), call.token)
        kind = self._choose(call)
        if kind is None:
            return reply, None
        self.fired.append(Fired(kind, call.operation, call.studio_id, call.page))
        bad_reply = FAULTS[kind](reply, call)
        if kind.startswith("token-") and call.next_token is not None:
            self._aliases[call.path, json.loads(bad_reply.body)["nextToken"]] = call.next_token
        return bad_reply, kind

    def _choose(self, call: Call) -> str | None:
        asked = (call.operation, call.path, call.page)
        self._asked[asked] += 1
        covering = [(number, rule) for number, rule in enumerate(self.rules) if rule.covers(call)]
        self._seen.update(number for number, _ in covering)
        for number, rule in covering:
            spent = rule.times is not None and self._hits[number] >= rule.times
            if spent or self._seen[number] < rule.request or not rule.is_on_page(call):
                continue
            kind = rule.kind or _draw(rule, f"{asked} {self._asked[asked]}")
            if kind and _applies(kind, call):
                self._hits[number] += 1
                return kind
        return None


def _applies(kind: str, call: Call) -> bool:
    """Return whether a fault would make a difference to this call."""
    if kind == "cycle-tokens":
        return call.previous_token is not None
    return (
        not (kind in CONTINUED and call.token is None)
        and not (kind in ENDING and call.next_token is not None)
        and not (kind in MIDWAY and call.next_token is None)
    )


def _draw(rule: FaultRule, what: str) -> str | None:
    """Return the fault that a seeded rule has for this, if any."""
    digest = blake2b(f"{rule.seed} {what}".encode(), digest_size=8).digest()
    if int.from_bytes(digest[:4]) >= rule.rate * 2**32:
        return None
    return rule.kinds[int.from_bytes(digest[4:]) % len(rule.kinds)]
