"""JSON that is nested so deep that a parser gives up: how deep, and which items a list has. Nothing here recurses."""

import json
import re
from collections.abc import Iterator

MOST_LEVELS = 200
"""A record that is nested deeper is a reject. Parsers fail at about 1,000 levels, less those of their callers."""

_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},]')


def depth_of(text: bytes) -> int:
    """Return how many lists and objects are open at once in a JSON text, at most."""
    depth = most = 0
    if text.count(b"[") + text.count(b"{") > MOST_LEVELS:  # otherwise it cannot be deeper, which is nearly always so
        for found in _TOKENS.finditer(text):
            depth += (found[0] in b"[{") - (found[0] in b"]}")
            most = max(most, depth)
    return most


def items_of(text: bytes, name: str) -> Iterator[bytes]:
    """Yield the items of the list that an object has under a name, as their JSON texts; the JSON must be valid."""
    depth, key, start = 0, b'""', -1
    for found in _TOKENS.finditer(text):
        token = found[0]
        if token in b"[{":
            depth += 1
            if depth == 2 and start < 0 and token == b"[" and json.loads(key) == name:  # noqa: PLR2004
                start = found.end()
        elif token in b"]}":
            depth -= 1
        elif depth == 1:
            key = token
        if start >= 0 and ((token == b"," and depth == 2) or depth == 1):  # noqa: PLR2004
            if item := text[start : found.start()].strip():
                yield item
            start = found.end()
            if depth == 1:
                return
