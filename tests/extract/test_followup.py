"""Pages after the first, asked for with the request that botocore made for that one: nothing else differs."""

import json
import threading

import pytest
from botocore.paginate import TokenEncoder
from support.answers import Answers, http, source_at
from support.job import Job
from support.shapes import ACCOUNT

from etl.errors import SourceError
from etl.extract import source as module
from etl.extract.bounded import BoundedSession
from etl.extract.datasets import builtin_datasets
from etl.model import Dataset, Slice

REGION = "us-west-2"
OF_EACH_PAGE = {"Authorization", "X-Amz-Date", "amz-sdk-invocation-id"}
SESSIONS = builtin_datasets()["streaming_sessions"]
LISTINGS = {
    "rest-json, token in the query": (SESSIONS, {"studioId": "s/1"}, "sessions"),
    "rest-json, token in the body": (
        Dataset(name="x", service="imagebuilder", operation="list_images", key=("name",), page_size=7),
        {}, "imageVersionList",
    ),
    "json": (
        Dataset(name="x", service="ecr", operation="list_images", key=("image_digest",)),
        {"repositoryName": "repository"}, "imageIds",
    ),
}  # fmt: skip
TOKENS = ["two", "a b+c/=&ü'\"", "None"]


@pytest.fixture
def sent(monkeypatch):
    """The requests as they are sent: method, URL, headers and body."""
    found = []
    send = BoundedSession.send

    def noted(self, request):
        headers = {name: bytes(value) if isinstance(value, bytes) else value for name, value in request.headers.items()}
        found.append((request.method, request.url, headers, request.body))
        return send(self, request)

    monkeypatch.setattr(BoundedSession, "send", noted)
    return found


def pages(name):
    tokens = [*TOKENS, None]
    return [http(json.dumps({name: [], **({"nextToken": token} if token else {})}).encode()) for token in tokens]


def walk(source, dataset, parents, first=None):
    slice_, number, token = Slice(dataset.name, ACCOUNT, REGION, parents), 0, first
    while True:
        number += 1
        page = source.fetch_page(dataset, slice_, number, token, None)
        yield token
        token = page.next_starting_token
        if token is None:
            return


def _value(body):
    return json.loads(body) if body else None


@pytest.mark.parametrize("listing", LISTINGS)
def test_requests_are_those_that_botocore_makes_for_each_token(listing, sent, monkeypatch):
    dataset, parents, name = LISTINGS[listing]
    with Answers(*pages(name)) as answers:
        source = source_at(answers.url)
        tokens = list(walk(source, dataset, parents))
        followed = list(sent)
        sent.clear()
        monkeypatch.setattr(module, "find_follow_up", lambda *_: None)
        answers.queue[:] = pages(name)
        assert list(walk(source_at(answers.url), dataset, parents)) == tokens

    assert len(followed) == len(sent) == len(TOKENS) + 1
    for one, other in zip(followed, sent, strict=True):
        assert one[:2] == other[:2]
        assert _value(one[3]) == _value(other[3])
        assert one[2].keys() == other[2].keys()
        same = one[2].keys() - OF_EACH_PAGE  # with the length of the body
        assert {header: one[2][header] for header in same} == {header: other[2][header] for header in same}
    ids = [headers["amz-sdk-invocation-id"] for *_, headers, _ in followed]
    assert len(set(ids)) == len(ids), "each page is a call of its own"


def test_requests_are_those_that_botocore_makes_for_each_token_also_from_a_checkpoint_on():
    first = TokenEncoder().encode({"nextToken": "one"})
    with Answers(*pages("sessions")) as answers:
        list(walk(source_at(answers.url), SESSIONS, {"studioId": "s"}, first))
        assert [sent["nextToken"] for sent in answers.sent] == ["one", *TOKENS]


def test_only_the_first_page_is_serialized_by_botocore(monkeypatch):
    made = []
    with Answers(*pages("sessions")) as answers:
        source = source_at(answers.url)
        make = source._clients.make
        monkeypatch.setattr(
            source._clients, "make", lambda *a, **k: _counting(make(*a, **k), made)  # what is asked through its methods
        )  # fmt: skip
        list(walk(source, SESSIONS, {"studioId": "s"}))
    assert len(made) == 1


def _counting(client, made):
    client.meta.events.register("provide-client-params.*.*", lambda **_: made.append(1))
    return client


def test_errors_are_those_of_botocore():
    refused = http(b'{"message":"no"}', status="403 Forbidden", x_amzn_ErrorType="AccessDeniedException")
    with (
        Answers(pages("sessions")[0], refused) as answers,
        pytest.raises(SourceError, match=r"page 2: .*AccessDeniedException.*grant it"),
    ):
        list(walk(source_at(answers.url), SESSIONS, {"studioId": "s"}))


def test_where_answers_are_slow_the_next_page_is_asked_for_while_the_last_is_stored(tmp_path, monkeypatch):
    """The request is under way before the page is durable, and its page is taken afterwards."""
    monkeypatch.setattr(module, "SLOW_S", -1.0)
    monkeypatch.setenv("AWS_ACCOUNT_ID", ACCOUNT)  # STS is not asked
    arrived = threading.Event()
    studios = http(b'{"studios":[{"studioId":"s","arn":"a","studioName":"s"}]}')
    bodies = {None: pages("sessions")[0], "two": http(b'{"sessions":[]}')}

    def choose(path):
        if "streaming-sessions" not in path:
            return studios
        if "nextToken" in path:
            arrived.set()
        return bodies["two" if "nextToken" in path else None]

    with Answers() as answers:
        answers.choose = choose
        job = Job(tmp_path, answers.url, ("A", "b"), source=f"  account_id: '{ACCOUNT}'").lend_credentials(monkeypatch)
        waited = []

        def on_page(slice_, page):
            if slice_.dataset == "streaming_sessions" and page.number == 1:
                waited.append(arrived.wait(10))

        (outcome,) = job.run(on_page=on_page, overrides={"datasets": ["streaming_sessions"]})

        assert waited == [True]
        assert outcome.exit_code == 0
        assert len(answers.paths) == 3


def test_where_answers_are_quick_each_page_is_asked_for_when_it_is_needed(monkeypatch):
    monkeypatch.setattr(module, "SLOW_S", 1e9)
    with Answers(*pages("sessions")) as answers:
        source = source_at(answers.url)
        slice_ = Slice(SESSIONS.name, ACCOUNT, REGION, {"studioId": "s"})
        page = source.fetch_page(SESSIONS, slice_, 1, None, None)
        source.expect_page(SESSIONS, slice_, 2, page.next_starting_token)
        assert len(answers.paths) == 1
        source.fetch_page(SESSIONS, slice_, 2, page.next_starting_token, None)
        assert len(answers.paths) == 2
