"""Pages whose bodies are kept as they arrived.

An operation is exported raw if a response is a JSON object with one list of structures and one token, both at its top
(`service_model._is_raw`). A handler of botocore's before-parse event proves that a body is a page and skips the parse:
a page of 100 sessions costs 1.5 ms of CPU instead of 30. botocore's paginator still counts the records.

The proof: the status is no error, the body has the announced length, it is UTF-8, it is one JSON object, and it has the
list. Nothing parses the body again before it is stored. Without the proof, a cut or foreign response would have no
token; the walk would end there, and the missing records would look deleted.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from botocore.paginate import PageIterator, TokenEncoder

from etl.extract.parsed import MalformedPageError, arrived_page, whole_body
from etl.model import Operation, Page

_RAW = "nimble-etl/raw-page"


def read_raw_page(operation: Operation, pages: PageIterator, number: int, tried: int) -> Page:
    """Return the first page of an unused iterator, its body as it arrived; the client has the `raw_page_hook`.

    `number` counts pages from 1; `tried` is how many requests for this page failed before.

    Raises:
        MalformedPageError: the response is not a page.
    """
    return raw_page(operation, next(iter(pages)), number, tried, pages.resume_token)


def raw_page(
    operation: Operation, response: dict[str, Any], number: int, tried: int, resume_token: str | None = None
) -> Page:
    """Return the page that a response is. `resume_token` leads to the records of it that are not kept, if some are not.

    Raises:
        MalformedPageError: the response is not a page.
    """
    kept: Sequence[int] = response[operation.result_member]
    token = response.get(operation.token_member)
    next_token = resume_token or (TokenEncoder().encode({operation.input_token: token}) if token else None)
    return arrived_page(
        number,
        tried,
        response,
        body=response[_RAW],
        records=response[f"{_RAW}/records"],
        first=kept[0] if kept else 0,
        stop=kept[-1] + 1 if kept else 0,
        next_starting_token=next_token,
    )


def raw_page_hook(operation: Operation) -> Callable[..., None]:
    """Return a handler of botocore's before-parse event that keeps the body of a page and skips its parse.

    It puts the positions of the records in place of the result list, so that botocore's paginator counts and cuts them.
    It raises MalformedPageError for what is not a page of the operation.
    """
    envelope = msgspec.json.Decoder(
        msgspec.defstruct(
            "Envelope",
            [("records", list[msgspec.Raw]), ("token", str | None, None)],
            rename={"records": operation.result_key, "token": operation.token_key},
        )
    )

    def keep_raw_page(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
        body = whole_body(operation.name, response_dict)
        if body is None:
            return
        records, token = _read_envelope(envelope, body, operation)
        response_dict["body"] = b"{}"
        customized_response_dict[_RAW] = body
        customized_response_dict[f"{_RAW}/records"] = records
        customized_response_dict[operation.result_member] = list(range(records))
        if token:
            customized_response_dict[operation.token_member] = token

    return keep_raw_page


def _read_envelope(decoder: Any, body: bytes, operation: Operation) -> tuple[int, str | None]:
    """Return the number of records in a body, and its token; refuse a body that is not a page."""
    expected = f"expected a JSON object with the list {operation.result_key!r}"
    try:
        text = body.decode("utf-8")
        envelope = decoder.decode(body)
        _check_keys(body, envelope.records, operation)
    except (UnicodeDecodeError, msgspec.ValidationError, RecursionError) as exc:
        problem = f"{operation.name}: {exc}; {expected}"
        if isinstance(exc, msgspec.ValidationError) and _lacks_list(body, operation):
            raise MalformedPageError(problem, body) from exc
        raise MalformedPageError(problem) from exc
    except msgspec.DecodeError as exc:
        # msgspec refuses a lone surrogate, "\ud800", which is legal JSON. Then the standard library decides.
        try:
            value = json.loads(text, parse_constant=refuse_constant)
            records, token = value[operation.result_key], value.get(operation.token_key)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise MalformedPageError(f"{operation.name}: a body of {len(body)} bytes: {exc}; {expected}") from exc
        if not isinstance(records, list) or not isinstance(token, str | None):
            raise MalformedPageError(f"{operation.name}: the list or the token has a wrong type; {expected}") from exc
        return len(records), token
    return len(envelope.records), envelope.token


def _lacks_list(body: bytes, operation: Operation) -> bool:
    """Tell whether a JSON body is an object in which only the list is missing, or null."""
    value = msgspec.json.decode(body)
    return isinstance(value, dict) and value.get(operation.result_key) is None


def _check_keys(body: bytes, records: Sequence[Any], operation: Operation) -> None:
    """Refuse a body that has its list or its token twice: readers keep the last one in silence.

    `records` are the items of the last list, as slices of the body.
    """
    names = (operation.result_key, operation.token_key)
    around = _around(body, records)
    if b"\\u" not in around and all(around.count(b'"%s"' % name.encode()) <= 1 for name in names):
        return  # reading the whole body again would cost as much as all other work on it
    pairs = json.JSONDecoder(object_pairs_hook=list).decode(body.decode())
    for name in names:
        if sum(found == name for found, _ in pairs) > 1:
            raise MalformedPageError(f"{operation.name}: {name!r} is there twice; expected it once")


def _around(body: bytes, records: Sequence[Any]) -> bytes:
    """Return a body without its records, if they stand in it one after the other; otherwise all of it."""
    if not records:
        return body
    first, last = bytes(records[0]), bytes(records[-1])
    end = body.rindex(last) + len(last)
    begin = end - sum(memoryview(record).nbytes for record in records) - len(records) + 1
    return body[:begin] + body[end:] if begin > 0 and body.startswith(first, begin) else body


def refuse_constant(name: str) -> None:
    """Refuse NaN and Infinity: of all JSON readers, only Python's accepts them."""
    raise ValueError(f"{name} is no JSON number")
