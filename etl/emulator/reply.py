"""What the studio answers: plain values, before they become bytes on a socket."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

import msgspec


class Delivery(Enum):
    """What happens on the wire."""

    WHOLE = auto()  # as HTTP has it
    TRUNCATED = auto()  # Content-Length of the whole, half of the body, then the connection closes
    RESET = auto()  # no byte; the connection is reset
    STALLED = auto()  # no byte until the client goes away


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        status: HTTP status.
        body: as sent, whatever `delivery` makes of it.
        headers: beyond the ones every answer has; they win over those.
        delivery: what happens on the wire.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    delivery: Delivery = Delivery.WHOLE


def error_reply(status: int, code: str, message: str, **headers: str) -> Reply:
    """Return an error as rest-json has it: name in a header, and code, message and context in the body."""
    body = msgspec.json.encode({"code": code, "message": message, "context": {}})
    return Reply(status, body, {"x-amzn-errortype": code, **headers})
