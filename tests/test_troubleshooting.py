"""docs/troubleshooting.md quotes messages that this version really has. tests/test_readme.py looks at its commands."""

import re
from functools import cache

import pytest
from support.documents import PAGES
from support.remedies import messages

QUOTED = re.findall(r"^\| `([^`]+)` \| [^|]+ \| [^|]+ \|$", PAGES["docs/troubleshooting.md"], re.MULTILINE)
FEWEST = 20
"""Characters of a quotation, besides what differs: fewer could be in many messages."""


@cache
def texts():
    return [re.sub(r"%[sd]", "FILLED", text) for _, text in messages()]


def pieces(quoted):
    """Return the words of a quotation between what differs."""
    return [piece for piece in quoted.split("…") if piece.strip(" :;,.()")]


def is_said(quoted):
    """Whether a message has all the words of a quotation, and something that differs between them."""
    pattern = re.compile(".+".join(map(re.escape, pieces(quoted))), re.DOTALL)
    return any(pattern.search(text) for text in texts())


def test_there_are_thirty_messages_each_once():
    assert len(QUOTED) >= 30
    assert len(set(QUOTED)) == len(QUOTED)


def test_every_row_of_a_message_is_read():
    rows = re.findall(r"^\| `", PAGES["docs/troubleshooting.md"], re.MULTILINE)
    assert len(rows) == len(QUOTED)


@pytest.mark.parametrize("quoted", QUOTED)
def test_message_is_in_the_source(quoted):
    assert sum(map(len, pieces(quoted))) >= FEWEST
    assert is_said(quoted)


@pytest.mark.parametrize("quoted", ["the catalog is lost; … finds it", "…: another run holds the key (…)"])
def test_message_that_nobody_says_is_noticed(quoted):
    assert not is_said(quoted)
