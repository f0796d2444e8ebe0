"""A server that answers as a test says, and two sources that ask it."""

import pytest
from botocore.config import Config
from support.answers import Answers, source_at, stopped_source_at

from etl.extract import source as client


@pytest.fixture(scope="module")
def one_attempt():
    """Leave repeating to the code under test: botocore's own retries pause for seconds."""
    with pytest.MonkeyPatch.context() as patch:
        once = Config(retries={"mode": "standard", "total_max_attempts": 1})
        patch.setattr(client, "_CLIENT_CONFIG", client._CLIENT_CONFIG.merge(once))
        yield


@pytest.fixture(scope="module")
def server(one_attempt):  # noqa: ARG001
    with Answers() as server:
        yield server


@pytest.fixture
def answers(server):
    """Return a function that says what is answered, and returns the server."""
    server.paths.clear()
    server.sent.clear()
    server.choose = None

    def answers(*queue):
        server.queue = list(queue)
        return server

    return answers


@pytest.fixture(scope="module")
def source(server):
    """A source that was told to stop: it asks once and repeats nothing."""
    return stopped_source_at(server.url)


@pytest.fixture(scope="module")
def patient(server):
    """A source that repeats a failing request, without a pause."""
    return source_at(server.url)
