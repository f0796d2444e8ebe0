"""A body is read as it arrives: up to a size, and for a time."""

from itertools import repeat
from types import SimpleNamespace

import botocore.exceptions as boto
import pytest
from support.answers import Answers, http, source_at
from support.shapes import ACCOUNT

from etl.errors import SourceError, shortened
from etl.extract import bounded
from etl.extract.bounded import BoundedSession
from etl.extract.datasets import builtin_datasets
from etl.model import Slice

SESSIONS = builtin_datasets()["streaming_sessions"]
SLICE = Slice("streaming_sessions", ACCOUNT, "us-west-2", {"studioId": "s"})


def fetch(answers, **settings):
    return source_at(answers.url, **settings).fetch_page(SESSIONS, SLICE, 1, None, None)


@pytest.mark.parametrize("length", [None, "none"], ids=["announced", "until the end of the connection"])
def test_fault_72_a_page_that_is_too_large_is_refused_and_not_kept_in_memory(length, monkeypatch):
    body = b'{"sessions":[' + b" " * 5_000_000 + b"]}"
    with Answers(http(body, length=length)) as answers:
        source = source_at(answers.url)
        clients = source._clients
        monkeypatch.setattr(clients, "_settings", clients._settings.model_copy(update={"max_page_bytes": 1_000_000}))
        with pytest.raises(SourceError, match=r"more than 1000000 bytes; expected a page.*source\.max_page_bytes"):
            source.fetch_page(SESSIONS, SLICE, 1, None, None)
        assert len(answers.paths) == 1, "repeating does not help"


def test_a_page_of_the_largest_size_is_read_whole():
    body = b'{"sessions":[{"sessionId":"a","ownedBy":"' + b"x" * 3_000_000 + b'"}]}'
    with Answers(http(body)) as answers:
        assert fetch(answers).body == body


def test_fault_72_a_body_that_drips_for_ever_is_given_up(monkeypatch):
    now = iter(range(0, 10**6, 100))
    monkeypatch.setattr(bounded.time, "monotonic", lambda: next(now))
    closed = []
    raw = SimpleNamespace(stream=lambda _size: repeat(b" "), close=lambda: closed.append(True))
    session = SimpleNamespace(send=lambda _request: SimpleNamespace(raw=raw))

    with pytest.raises(boto.ReadTimeoutError, match="Read timeout on endpoint"):
        BoundedSession(session, 10**9).send(SimpleNamespace(url="http://127.0.0.1/"))
    assert closed


def test_fault_2_a_body_that_is_cut_is_asked_for_again():
    whole = http(b'{"sessions":[{"sessionId":"a"}]}')
    with Answers(whole[:-5], whole) as answers:
        assert fetch(answers).records == 1
        assert len(answers.paths) == 2


def test_fault_72_what_a_server_says_is_cut_and_names_are_counted():
    answer = http(
        b'{"message": "' + b"no " * 100_000 + b'"}', status="403 Forbidden", x_amzn_ErrorType="AccessDeniedException"
    )
    with Answers(answer) as answers, pytest.raises(SourceError) as caught:
        fetch(answers)
    assert "… (300000 characters)" in str(caught.value)
    assert len(str(caught.value)) < 2000
    assert shortened([f"member {n}" for n in range(300_000)])[-1] == "299980 more"
