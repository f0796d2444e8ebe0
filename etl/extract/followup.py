"""Requests for the pages after the first, made from the request that botocore made for that one.

botocore checks the parameters of a request, finds its endpoint and serializes it. For every page of a listing, the
outcome is the same but for the token. So the request is kept, and given back to botocore with another token. All the
rest is botocore's: it signs, sends, and judges the answer. A page costs a third less of botocore's time.
"""

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from botocore.model import OperationModel
from botocore.utils import percent_encode_sequence

from etl.model import Operation

_made: ContextVar["Request | None"] = ContextVar("the request that botocore made last", default=None)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as botocore made it, before it was signed. `params` are what botocore calls a request dict."""

    client: Any
    model: OperationModel
    params: Mapping[str, Any]

    def ask(self, with_token: Mapping[str, Any]) -> dict[str, Any]:
        """Send it once more, with what a token changes in it, and return botocore's parsed response.

        Raises:
            ClientError: as a method of the client.
        """
        # Signatures and the ids of retries are new for each page.
        context = {name: value for name, value in self.params["context"].items() if name != "retries"}
        params = {**self.params, "headers": dict(self.params["headers"]), "context": context, **with_token}
        http, parsed = self.client._make_request(self.model, params, context)  # noqa: SLF001  what its methods call
        if http.status_code >= 300:  # noqa: PLR2004  as there
            error = parsed.get("Error", {})
            kind = self.client.exceptions.from_code(error.get("QueryErrorCode") or error.get("Code"))
            raise kind(parsed, self.model.name)
        found: dict[str, Any] = parsed
        return found


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Asks for further pages of one listing."""

    request: Request
    with_token: Callable[[str], Mapping[str, Any]]

    def ask(self, token: str) -> dict[str, Any]:
        """Return the response that a token of the service leads to, as botocore parses it. Raises as `Request.ask`."""
        return self.request.ask(self.with_token(token))


def keep_requests(client: Any) -> None:
    """Have a client note each request that botocore makes for it."""

    def keep(model: OperationModel, params: Mapping[str, Any], **_event: object) -> None:
        _made.set(Request(client, model, {**params, "headers": dict(params["headers"])}))

    client.meta.events.register_last(f"before-call.{client.meta.service_model.service_id.hyphenize()}", keep)


def find_follow_up(operation: Operation) -> FollowUp | None:
    """Return what asks for the pages after the one that this thread has just asked for; None if that cannot be.

    The token must be in the query, or in a body of JSON. botocore must do nothing to the request besides.
    """
    made = _made.get()
    if made is None or not operation.input_token or made.model.input_shape is None:
        return None
    model, params = made.model, made.params
    serialization = model.input_shape.members[operation.input_token].serialization
    location, name = serialization.get("location"), serialization.get("name", operation.input_token)
    if model.http_checksum or model.http_checksum_required or model.request_compression:
        return None
    if location == "querystring":
        encoded = percent_encode_sequence(params["query_string"])
        base = params["url"].removesuffix(f"?{encoded}")
        if "?" in base:
            return None
        query = dict(params["query_string"])
        return FollowUp(made, lambda token: {"url": f"{base}?{percent_encode_sequence({**query, name: token})}"})
    if location is None and model.service_model.resolved_protocol in {"json", "rest-json"} and params["body"]:
        body = json.loads(params["body"])
        return FollowUp(made, lambda token: {"body": json.dumps({**body, name: token}).encode()})
    return None
