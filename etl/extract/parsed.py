"""Pages of operations that are not exported raw: botocore parses the response, and its result becomes the page.

These are XML and CBOR services, several or nested result lists, several tokens, and lists of plain values. The records
are written as JSON under one name, so that ledger, tables, verification and replay treat them like any other page.
botocore's parser drops members that the service model does not know; timestamps stay as they were sent.
"""

import datetime as dt
import json
import math
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree as ET

import jmespath
import msgspec
from botocore.paginate import PageIterator, TokenEncoder

from etl.errors import TransientSourceError
from etl.model import Dataset, Member, Operation, Page, Pager

XML_PROTOCOLS = ("query", "ec2", "rest-xml")
BODY_KEY = "records"
"""The name of the list of records in the body of such a page."""

_FIRST_ERROR_STATUS = 301  # source: botocore, parsers.py, which parses these as errors
_CBOR_MAP = 5  # major type of the first byte; source: RFC 8949, section 3.1


class MalformedPageError(TransientSourceError):
    """A response without an error status that is not a page.

    `without_list` is what was answered if nothing but the list is missing. Some services leave empty lists out, and
    then each answer is the same.
    """

    def __init__(self, problem: str, without_list: object = None) -> None:
        super().__init__(f"{problem}. {_EMPTY_LISTS}" if without_list else problem)
        self.without_list = without_list


_EMPTY_LISTS = "If the service omits empty lists, set `allow_missing_list: true` on the dataset"


def read_parsed_page(dataset: Dataset, operation: Operation, pages: PageIterator, number: int, tried: int) -> Page:
    """Return the first page of an unused iterator, its records as JSON.

    `number` counts pages from 1; `tried` is how many requests for this page failed before.

    Raises:
        MalformedPageError: the list is missing, or the response announces more pages without a token.
    """
    pager = operation.pager
    assert pager is not None
    response = next(iter(pages))
    found = jmespath.search(pager.result, response)
    if found is None and pager.is_always_there and not dataset.allow_missing_list:
        answer = {name: value for name, value in response.items() if name != "ResponseMetadata"}
        problem = f"{operation.name}: {pager.result!r} is missing; expected a list, which may be empty"
        raise MalformedPageError(problem, repr(answer))
    if isinstance(found, dict):  # a structure is the only record
        found = [found]
    items = [{"value": item} for item in found or []] if pager.is_plain else found or []
    records = [as_modeled(item, operation.record) for item in items]
    return arrived_page(
        number,
        tried,
        response,
        body=msgspec.json.encode({BODY_KEY: records}),
        records=len(records),
        first=0,
        stop=len(records),
        next_starting_token=pages.resume_token or _next_starting_token(operation.name, pager, response),
    )


def arrived_page(number: int, tried: int, response: Mapping[str, Any], **content: Any) -> Page:
    """Return a page that has this content; the other fields say how its response arrived."""
    metadata = response["ResponseMetadata"]
    return Page(
        number=number,
        request_id=metadata.get("RequestId", ""),
        retries=metadata.get("RetryAttempts", 0) + tried,
        received_at=dt.datetime.now(dt.UTC),
        **content,
    )


def proof_hook(operation: Operation) -> Callable[..., None]:
    """Return a handler of botocore's before-parse event that raises MalformedPageError for what is not a page."""

    def prove(response_dict: dict[str, Any], **_event: object) -> None:
        body = whole_body(operation.name, response_dict)
        if body is None:
            return
        assert operation.pager is not None
        if operation.pager.protocol in XML_PROTOCOLS:
            _check_xml(operation.name, operation.pager, body)
        elif "cbor" not in operation.pager.protocol:
            _check_json(operation.name, operation.pager, body)
        elif not body or body[0] >> 5 != _CBOR_MAP:
            raise MalformedPageError(f"{operation.name}: {len(body)} bytes that are no CBOR map; expected a page")

    return prove


def whole_body(name: str, response: Mapping[str, Any]) -> bytes | None:
    """Return the body of a response; None if its status is an error. A body of another length is malformed."""
    if response["status_code"] >= _FIRST_ERROR_STATUS:
        return None
    body: bytes = response["body"]
    length = response["headers"].get("content-length")
    # botocore asks for no compression and undoes none: a compressed body has the announced length, but is no page.
    if length is not None and length != str(len(body)):
        raise MalformedPageError(f"{name}: {len(body)} bytes arrived of {length} announced")
    return body


def _check_json(name: str, pager: Pager, body: bytes) -> None:
    """Refuse a body that is no object, or another operation's. botocore takes the former for an error text."""
    doubled: list[str] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            doubled.extend(found)
        return found

    try:
        value = json.loads(body, object_pairs_hook=members)
    except (ValueError, RecursionError) as exc:
        raise MalformedPageError(f"{name}: {len(body)} bytes that are not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise MalformedPageError(f"{name}: {len(body)} bytes that are no JSON object; expected a page")
    if doubled:
        raise MalformedPageError(f"{name}: one of {', '.join(doubled)} is there twice in one object; expected it once")
    if value and not value.keys() & set(pager.wire_members):
        raise MalformedPageError(f"{name}: an object without any of {', '.join(pager.wire_members)}; expected a page")


def _check_xml(name: str, pager: Pager, body: bytes) -> None:
    """Refuse XML that does not answer the operation: botocore would find no list in it and return an empty page."""
    try:
        root = ET.fromstring(body)  # noqa: S314  botocore reads it with the same parser
    except ET.ParseError as exc:
        raise MalformedPageError(f"{name}: {len(body)} bytes that are not XML: {exc}") from exc
    found, expected = _tag(root), f"{name}Response"
    if pager.protocol == "rest-xml":
        # Service models do not say how S3 names the root element, so its children decide.
        expected = f"an element with {', '.join(pager.wire_members)}"
        is_answer = not {_tag(child) for child in root}.isdisjoint(pager.wire_members)
    else:
        is_answer = found == expected
    if not is_answer:
        raise MalformedPageError(f"{name}: the body is <{found}>; expected {expected}")


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def as_modeled(value: Any, member: Member) -> Any:
    """Return a parsed value as its shape describes it, ready for JSON.

    botocore decodes some strings that hold JSON, such as IAM's policies; they become strings again. JSON has no NaN
    and no infinity; they become strings, as in AWS's own JSON protocols.
    """
    if member.kind == "structure" and isinstance(value, dict):
        shapes = {child.api_name: child for child in member.members}
        return {name: as_modeled(inner, shapes[name]) if name in shapes else inner for name, inner in value.items()}
    if member.element and isinstance(value, list):
        return [as_modeled(inner, member.element) for inner in value]
    if member.element and isinstance(value, dict):
        return {key: as_modeled(inner, member.element) for key, inner in value.items()}
    if member.kind == "string" and isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _next_starting_token(name: str, pager: Pager, response: dict[str, Any]) -> str | None:
    """Return where the walk continues after a whole page, in botocore's encoding; None after the last page.

    If more pages are announced without a token, botocore would silently stop; here it is an error.

    Source: botocore, paginate.py, PageIterator._get_next_token. The settings are JMESPath into the response. All
    tokens are sent again, absent ones as null. The walk ends where all are absent.
    """
    if pager.more_results and not jmespath.search(pager.more_results, response):
        return None
    found = (jmespath.search(path, response) or None for path in pager.output_tokens)
    tokens = dict(zip(pager.input_tokens, found, strict=True))
    if any(value is not None for value in tokens.values()):
        return str(TokenEncoder().encode(tokens))
    if pager.more_results:
        raise MalformedPageError(
            f"{name}: {pager.more_results} says that more follows, and there is no token; expected one"
        )
    return None
