"""A server that answers as a test says, sources that ask it, and what AWS is configured like on this machine."""

import os
import threading

import pytest
from botocore.config import Config
from support.answers import Answers, source_at, stopped_source_at

from etl.config import SourceSettings
from etl.extract import clients as client
from etl.extract.clients import Endpoint
from etl.extract.source import Source


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


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that configures AWS on this machine: the text of ~/.aws/config, and variables."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    config = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def configure(text="", **variables):
        config.write_text(text)
        for name, value in variables.items():
            monkeypatch.setenv(f"AWS_{name}", value)

    return configure


@pytest.fixture
def source_of(machine):  # noqa: ARG001
    """Return a function that returns a source: it looks for credentials on this machine, and repeats nothing."""

    def source_of(url, **settings):
        stop = threading.Event()
        stop.set()
        return Source(SourceSettings(endpoint_url=url, **settings), Endpoint(url), stop)

    return source_of
