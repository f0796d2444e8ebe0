"""Pages of operations whose bodies are not simple JSON lists: botocore parses them, and what it returns is the page.

XML and CBOR services, several or nested result lists, several tokens, lists of plain values: all of these are read
by botocore's own parsers and paginator settings. The records are written as JSON under one name, so that ledger,
tables, verification and replay treat them like any other page. Members that the service model does not know are lost
in botocore's parser; timestamps stay as they were sent.
"""

import datetime as dt
import json
import math
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import jmespath
import msgspec
from botocore.paginate import PageIterator, TokenDecoder, TokenEncoder

from etl.errors import TransientSourceError
from etl.model import Dataset, Member, Operation, Page, Pager

BODY_KEY = "records"
"""The name that the list of records has in the body of such a page."""

_NO_RESULT = 301  # botocore's own border between a result and an error
_CBOR_MAP = 5
"""Major type of the first byte. Source: RFC 8949, section 3.1."""


class MalformedPageError(TransientSourceError):
    """A response without an error status that is not a page."""


def read_parsed_page(dataset: Dataset, operation: Operation, pages: PageIterator, number: int, tried: int) -> Page:
    """Return the first page of an iterator, its records as JSON.

    Args:
        dataset: says whether a missing list is an empty one.
        operation: has a pager.
        pages: not used before.
        number: the number that the page gets, from 1.
        tried: how often it was asked for before.

    Raises:
        MalformedPageError: the response has no such list, or more is to follow and it does not say from where on.
    """
    pager = operation.pager
    assert pager is not None
    response = next(iter(pages))
    found = jmespath.search(pager.result, response)
    if found is None and pager.is_always_there and not dataset.allow_missing_list:
        raise MalformedPageError(
            f"{operation.name}: {pager.result!r} is missing; expected a list, be it empty. If the service leaves "
            "empty lists out, set `allow_missing_list: true` on the dataset"
        )
    items = [{"value": item} for item in found or []] if pager.is_plain else found or []
    records = [_as_modeled(item, operation.record) for item in items]
    metadata = response["ResponseMetadata"]
    return Page(
        number=number,
        body=msgspec.json.encode({BODY_KEY: records}),
        records=len(records),
        first=0,
        stop=len(records),
        next_starting_token=pages.resume_token or _next_starting_token(operation.name, pager, response),
        request_id=metadata.get("RequestId", ""),
        retries=metadata.get("RetryAttempts", 0) + tried,
        received_at=dt.datetime.now(dt.UTC),
    )


def plain_tokens(starting_token: str) -> dict[str, Any] | None:
    """Return the parameters that a starting token stands for; None if it also leads into the midst of a page.

    From a starting token on, botocore empties every list of the first page but the one that it counts, and it drops
    the token "None": plain parameters suffer neither.
    """
    tokens = TokenDecoder().decode(starting_token)
    if "boto_truncate_amount" in tokens:
        return None
    return {name: token for name, token in tokens.items() if token is not None}


def proof_hook(operation: Operation) -> Callable[..., None]:
    """Return a handler of botocore's before-parse event that lets only whole bodies of this operation be parsed.

    Raises (when called):
        MalformedPageError: no error status, but the body is not a page of the operation.
    """

    def prove(response_dict: dict[str, Any], **_event: object) -> None:
        if response_dict["status_code"] >= _NO_RESULT:
            return
        body, length = response_dict["body"], response_dict["headers"].get("content-length")
        if length is not None and length != str(len(body)):
            raise MalformedPageError(f"{operation.name}: {len(body)} bytes arrived of {length} announced")
        assert operation.pager is not None
        if operation.pager.protocol in ("query", "ec2", "rest-xml"):
            _check_xml(operation.name, operation.pager, body)
        elif "cbor" in operation.pager.protocol:
            if not body or body[0] >> 5 != _CBOR_MAP:
                raise MalformedPageError(f"{operation.name}: {len(body)} bytes that are no CBOR map; expected a page")
        else:
            _check_json(operation.name, operation.pager, body)

    return prove


def _check_json(name: str, pager: Pager, body: bytes) -> None:
    """Refuse what is no object, which botocore takes for the text of a message, or that of another operation."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise MalformedPageError(f"{name}: {len(body)} bytes that are not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise MalformedPageError(f"{name}: {len(body)} bytes that are no JSON object; expected a page")
    if value and not value.keys() & set(pager.wire_members):
        raise MalformedPageError(f"{name}: an object without any of {', '.join(pager.wire_members)}; expected a page")


def _check_xml(name: str, pager: Pager, body: bytes) -> None:
    """Refuse XML that is not the answer of the operation: botocore finds no list in it, and goes on."""
    try:
        root = ET.fromstring(body)  # noqa: S314  botocore reads it with the same parser
    except ET.ParseError as exc:
        raise MalformedPageError(f"{name}: {len(body)} bytes that are not XML: {exc}") from exc
    found, expected = _tag(root), f"{name}Response"
    if pager.protocol == "rest-xml":
        # Models do not know what S3 calls its answers: what is inside must do.
        expected = f"an element with {', '.join(pager.wire_members)}"
        is_answer = not {_tag(child) for child in root}.isdisjoint(pager.wire_members)
    else:
        is_answer = found == expected
    if not is_answer:
        raise MalformedPageError(f"{name}: the body is <{found}>; expected {expected}")


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _as_modeled(value: Any, member: Member) -> Any:
    """Return a parsed value as its shape has it, ready for JSON.

    botocore decodes some texts that hold JSON, as IAM's policies: they are texts again. JSON has no NaN and no
    infinity: they become texts, as in AWS's own JSON protocols.
    """
    if member.kind == "structure" and isinstance(value, dict):
        shapes = {child.api_name: child for child in member.members}
        return {name: _as_modeled(inner, shapes[name]) if name in shapes else inner for name, inner in value.items()}
    if member.kind == "list" and isinstance(value, list):
        assert member.element is not None
        return [_as_modeled(inner, member.element) for inner in value]
    if member.kind == "map" and isinstance(value, dict):
        assert member.element is not None
        return {key: _as_modeled(inner, member.element) for key, inner in value.items()}
    if member.kind == "string" and isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _next_starting_token(name: str, pager: Pager, response: dict[str, Any]) -> str | None:
    """Return where the walk goes on after a whole page, in botocore's encoding.

    Source: botocore, paginate.py, PageIterator._get_next_token: the settings are JMESPath into the response; all
    tokens are sent again, absent ones as null; the walk ends where all are absent.

    Raises:
        MalformedPageError: more is to follow and there is no token. botocore would end there without a word.
    """
    if pager.more_results and not jmespath.search(pager.more_results, response):
        return None
    tokens = {
        name: jmespath.search(path, response) or None
        for name, path in zip(pager.input_tokens, pager.output_tokens, strict=True)
    }
    if any(value is not None for value in tokens.values()):
        return str(TokenEncoder().encode(tokens))
    if pager.more_results:
        raise MalformedPageError(f"{name}: {pager.more_results} says that more follows, and there is no token")
    return None
