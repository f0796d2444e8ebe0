"""Answers, dumps and damages that are drawn from a seed, and a model of what must come of them.

Nothing here knows the list of faults, and the model shares no code with the job: it reads JSON with the standard
library, strictly, and knows the few rules that docs/faults.md gives for statuses.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

ARN = "arn:aws:nimble:us-west-2:123456789012:streaming-session/"


MOST_RESTARTS = 3


class NotAPageError(ValueError):
    """A text is not a page."""


@dataclass
class Expected:
    """What a walk must end with. `ids` are those of the records that certainly become rows.

    `records` counts all records of the walk; None if the walk fails, and then nothing is published.
    """

    ids: set[str] = field(default_factory=set)
    records: int | None = 0


@dataclass(frozen=True)
class Answer:
    """One response: its bytes on the wire, its status, and the body that arrives whole; None if it does not."""

    wire: bytes
    status: int
    body: bytes | None


# Records


def good(random: Random, name: str) -> dict[str, Any]:
    """Return a record that fits."""
    record: dict[str, Any] = {"sessionId": name, "arn": f"{ARN}{name}", "state": random.choice(["READY", "STOPPED"])}
    if random.random() < 0.5:
        record["tags"] = {
            f"k{n}": random.choice(["a", "", "b:c", "\u00e9", "\U0001f3ac"]) for n in range(random.randint(0, 3))
        }
    if random.random() < 0.3:
        record["volumeConfiguration"] = {"size": random.randint(1, 999)}
    return record


def strange(random: Random, name: str) -> str:
    """Return the text of a record that may or may not fit."""
    record = good(random, name)
    odd: dict[str, list[Any]] = {
        "createdAt": ["soon", True, [], "9999-12-31T23:59:59Z", -1e300],
        "sessionId": [None, 7, "", ["x"]],
        "volumeConfiguration": [3, [], {"size": 2**70}, {"size": "3"}],
        "tags": [[], "x", {"a": 1}, {"a": None}, {"a": "\ud800"}],
        f"new{random.randint(0, 5)}": [1, {"deep": [None]}, "x" * 2000],
    }
    member = random.choice(list(odd))
    texts = ["null", str(random.randint(-9, 9)), json.dumps(name), "[]", "{}"]
    texts += [json.dumps({**record, member: random.choice(odd[member])})] * 5
    texts += [json.dumps(record)[:-1] + added for added in (',"state":"a"}', f',"new":{"[" * 300}{"]" * 300}}}')]
    return random.choice(texts)


# Pages


def page(random: Random, start: int, token: str | None) -> bytes:
    """Return the body of a page of some records, most of them good."""
    texts = [
        strange(random, f"s{n}") if random.random() < 0.1 else json.dumps(good(random, f"s{n}"))
        for n in range(start, start + random.randint(0, 6))
    ]
    members = [f'"sessions":[{",".join(texts)}]']
    if token is not None:
        members.append(f'"nextToken":{json.dumps(token)}')
    random.shuffle(members)
    space = random.choice(["", "", " ", "\n\t"])
    return (space + "{" + f",{space}".join(members) + "}" + space).encode("utf-8", "surrogatepass")


def mutated(random: Random, body: bytes) -> bytes:
    """Return a body that something has happened to."""
    place = random.randint(0, max(0, len(body) - 1))
    return random.choice(
        [
            lambda: body[:place],
            lambda: body[:place] + bytes([random.randint(0, 255)]) + body[place + 1 :],
            lambda: body + random.choice([b"}", b"{}", b"\0", b" trailing", body]),
            lambda: b"",
            lambda: b"{}",
            lambda: b"[]",
            lambda: b"null",
            lambda: b"<html><body>Service Unavailable</body></html>",
            lambda: b"\xef\xbb\xbf" + body,
            lambda: body.decode("utf-8", "replace").encode("utf-16"),
            lambda: gzip.compress(body),
            lambda: body.replace(b'"sessions"', random.choice([b'"Sessions"', b'"items"']), 1),
            lambda: b'{"sessions":' + random.choice([b"null", b"{}", b"3", b'"x"', b"[NaN]", b"[Infinity]"]) + b"}",
            lambda: body[:-1] + b',"sessions":[]}' if body.endswith(b"}") else b"{",
            lambda: b'{"sessions":[],"nextToken":' + random.choice([b"3", b"[]", b"{}", b"true"]) + b"}",
            lambda: b'{"nextToken":"again","sessions":[],"nextToken":null}',
        ]
    )()


STATUSES = [
    200,
    200,
    200,
    201,
    206,
    301,
    302,
    304,
    400,
    401,
    402,
    403,
    404,
    405,
    409,
    410,
    418,
    429,
    500,
    502,
    503,
    504,
    599,
]


def answer(random: Random, body: bytes) -> Answer:
    """Return a response with this body, or with something that has happened to status, headers, body or connection."""
    status, cut = 200, False
    headers = {"Connection": "close", "x-amzn-RequestId": "r", "Content-Length": str(len(body))}
    if random.random() < 0.45:
        kind = random.choice(["status", "body", "body", "length", "headers", "cut"])
        if kind == "status":
            status = random.choice(STATUSES)
            if status >= 301:
                body = random.choice([b"", b"{}", b"<html>", b'{"message":"no"}', b"\xff\xfe", body])
                headers["Content-Length"] = str(len(body))
        elif kind == "body":
            body = mutated(random, body)
            headers["Content-Length"] = str(len(body))
        elif kind == "length":
            headers["Content-Length"] = str(len(body) + random.choice([1, 7, 10_000]))
            cut = True
        elif kind == "headers":
            headers.update(
                random.choice(
                    [
                        {"Date": "not a date"}, {"Content-Type": "text/html"}, {"X-Odd": "\u00e9" * 100},
                        {"x-amzn-errortype": "Nothing"}, {"Content-Encoding": "gzip"}, {"Retry-After": "soon"},
                        {"Set-Cookie": "a=b; " * 50}, {"x-amzn-RequestId": "\x1b[31m"},
                    ]
                )
            )  # fmt: skip
        else:
            cut = True
    head = (
        f"HTTP/1.1 {status} Whatever\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    )
    wire = head.encode("latin-1", "replace") + body
    if cut and headers["Content-Length"] == str(len(body)):
        wire = wire[: random.randint(0, len(wire) - 1)]
    return Answer(wire, status, None if cut else body)


def answers(random: Random) -> list[Answer]:
    """Return the responses to the requests of one walk, of which the last two are a page without a token.

    The second is for a walk that takes the first as a sign to begin anew.
    """
    found, pages = [], random.randint(1, 4)
    for number in range(pages):
        body = page(random, number * 10, None if number == pages - 1 else f"token-{number}-{random.randint(0, 999)}")
        found += [answer(random, body) for _ in range(random.randint(0, 3))]
        wire = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        found.append(Answer(wire, 200, body))
    return [*found, found[-1]]


# The model


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        found["doubled"] = True
    return found


def _no_constant(_name: str) -> None:
    raise NotAPageError


def read(body: bytes) -> tuple[list[Any], str | None]:
    """Return the records and the token of a page, read strictly."""
    try:
        text = body.decode("utf-8")
        pairs = json.loads(text, object_pairs_hook=list, parse_constant=_no_constant)
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise NotAPageError from exc
    if not isinstance(value, dict) or not isinstance(pairs, list):
        raise NotAPageError
    names = [name for name, _ in pairs]
    records, token = value.get("sessions"), value.get("nextToken")
    if names.count("sessions") != 1 or names.count("nextToken") > 1:
        raise NotAPageError
    if not isinstance(records, list) or not isinstance(token, str | None):
        raise NotAPageError
    return records, token or None


def expected(responses: list[Answer]) -> Expected:
    """Return what a walk must end with that gets these responses, one for each request.

    A refusal of a request with a token, other than for want of rights, may mean the token. Then the same request is
    made without it. If that gives a page, the walk begins anew.
    """
    outcome, seen, queue, restarts = Expected(), set[str](), iter(responses), 0
    for response in queue:
        found = judged(response)
        if found == "again":
            continue
        if found == "refused":
            if not seen or response.status in {401, 402, 403}:
                return Expected(records=None)
            without_token = judged(next(queue))
            if without_token == "refused":
                return Expected(records=None)
            if without_token != "again":
                outcome, seen, restarts = Expected(), set(), restarts + 1
                assert restarts < MOST_RESTARTS, "no seed of the tests comes here"
            continue
        records, token = found
        assert outcome.records is not None
        outcome.records += len(records)
        outcome.ids |= {record["sessionId"] for record in records if is_plain(record)}
        if token is None:
            return outcome
        if token in seen:
            return Expected(records=None)
        seen.add(token)
    raise AssertionError("the last responses are pages without a token")


def judged(response: Answer) -> tuple[list[Any], str | None] | str:
    """Return the records and the token of a page; else whether a request is made "again", or is "refused"."""
    if response.body is None or response.status == 429 or response.status >= 500:
        return "again"
    if response.status >= 301:
        return "refused" if is_text(response.body) else "again"  # whose error that is cannot be read
    try:
        return read(response.body)
    except NotAPageError:
        return "again"


def is_text(body: bytes) -> bool:
    """Tell whether a body is UTF-8."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def is_plain(record: Any) -> bool:
    """Tell whether a record is one that `good` has made: it must become a row."""
    if not isinstance(record, dict) or "doubled" in record:
        return False
    known = {"sessionId": str, "arn": str, "state": str, "tags": dict, "volumeConfiguration": dict}
    if not all(name in known and isinstance(value, known[name]) for name, value in record.items()):
        return False
    tags, volume = record.get("tags", {}), record.get("volumeConfiguration", {})
    texts = [record.get("sessionId", ""), record.get("arn", ""), record.get("state", ""), *tags, *tags.values()]
    plain = all(isinstance(text, str) and text.isprintable() for text in texts) and "doubled" not in tags
    size = volume.get("size", 1)
    return bool(record.get("sessionId")) and plain and set(volume) <= {"size"} and type(size) is int and 0 < size < 1000


# Dumps


def dump(random: Random) -> bytes:
    """Return the content of a dump, to which something has often happened."""
    records = [json.dumps(good(random, f"s{n}")) for n in range(random.randint(0, 5))]
    text = '{"sessions": [' + ", ".join(records) + "]}"
    if random.random() < 0.2:
        text = "[" + ", ".join(records) + "]"
    body = text.encode()
    for _ in range(random.randint(0, 2)):
        place = random.randint(0, max(0, len(body) - 1))
        body = random.choice(
            [
                lambda b=body, p=place: b[:p],
                lambda b=body, p=place: b[:p] + bytes([random.randint(0, 255)]) + b[p + 1 :],
                lambda b=body, p=place: b[:p] + b[p + 1 :],
                lambda b=body, p=place: b[:p] + random.choice([b"{", b"]", b",", b'"', b"\0", b" "]) + b[p:],
                lambda b=body: b + b,
                lambda b=body: gzip.compress(b),
                lambda b=body: gzip.compress(b)[:-3],
                lambda b=body: b"\xef\xbb\xbf" + b,
            ]
        )()
    return body


# Damages

Damage = Callable[[bytes, bytes | None, Random], bytes | None]
DAMAGES: dict[str, Damage] = {
    "delete": lambda _content, _former, _random: None,
    "truncate": lambda content, _former, random: content[: random.randint(0, max(0, len(content) - 1))],
    "flip": lambda content, _former, random: _flipped(content, random),
    "yesterday": lambda content, former, _random: content if former is None else former,
}


def _flipped(content: bytes, random: Random) -> bytes:
    if not content:
        return b"\x01"
    changed = bytearray(content)
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)
