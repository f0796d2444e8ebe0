"""A fault at every place where a walk calls something of others, of every class that can come from there.

The classes are enumerated, not listed: those of botocore, of urllib3, and of the standard library. Each must become an
error of ours that names its place; the class of ours says what the caller should do.
"""

import builtins
import getpass
import http.client
import inspect
import io
import json
import socket
import ssl
import subprocess
import threading
import zlib
from xml.etree import ElementTree as ET

import botocore.auth
import botocore.credentials
import botocore.exceptions
import botocore.httpsession
import botocore.paginate
import botocore.parsers
import botocore.session
import pytest
import urllib3.connectionpool
import urllib3.exceptions
import urllib3.response
from support.answers import Answers
from support.answers import http as reply
from support.shapes import part

from etl.config import SourceSettings
from etl.errors import ConfigError, CredentialsError, EtlError, TransientSourceError
from etl.extract.clients import Endpoint
from etl.extract.datasets import builtin_datasets
from etl.extract.source import Source

SESSIONS = builtin_datasets()["streaming_sessions"]
SLICE = part("studio-1", dataset="streaming_sessions")
PLACE = r"streaming_sessions[studioId='studio-1'], page 1: "
STANDARD = (builtins, socket, ssl, http.client, json, subprocess, zlib, getpass, ET)
NOBODYS = (MemoryError, Warning, ExceptionGroup)
"""Without memory the process ends; warnings and groups are raised by nobody here."""


def classes_of(*modules):
    return {
        f"{found.__module__}.{found.__name__}": found
        for module in modules
        for found in vars(module).values()
        if inspect.isclass(found) and issubclass(found, Exception) and not issubclass(found, NOBODYS)
    }


BOTOCORE = classes_of(botocore.exceptions, botocore.parsers)
URLLIB3 = classes_of(urllib3.exceptions)
PYTHON = classes_of(*STANDARD)
EVERY = {**BOTOCORE, **URLLIB3, **PYTHON}
NETWORK = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, botocore.exceptions.HTTPClientError)


def test_the_classes_are_those_of_three_houses():
    assert min(len(BOTOCORE), len(URLLIB3), len(PYTHON)) > 30
    assert {"builtins.FileNotFoundError", "socket.gaierror", "ssl.SSLCertVerificationError"} <= PYTHON.keys()


ANSWER = {"Error": {"Code": "Any"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
MADE = {
    botocore.exceptions.ClientError: (ANSWER, "Any"),
    botocore.exceptions.EventStreamError: (ANSWER, "Any"),
    http.client.IncompleteRead: (b"half", 4),
    urllib3.exceptions.IncompleteRead: (4, 4),
    urllib3.exceptions.InvalidChunkLength: (urllib3.response.HTTPResponse(io.BytesIO()), b"x"),
    subprocess.CalledProcessError: (1, "program"),
    subprocess.TimeoutExpired: ("program", 1),
}


def raised(found):
    """Return an exception of a class, whatever its constructor asks for."""
    if found in MADE:
        return found(*MADE[found])
    exc = found.__new__(found)
    Exception.__init__(exc, f"what {found.__name__} says")
    return exc


PLACES = {
    "make a client": (botocore.session.Session, "create_client"),
    "load credentials": (botocore.credentials.EnvProvider, "load"),
    "renew credentials": (botocore.credentials.Credentials, "get_frozen_credentials"),
    "sign": (botocore.auth.SigV4Auth, "add_auth"),
    "send": (botocore.httpsession.URLLib3Session, "send"),
    "connect": (urllib3.connectionpool.HTTPConnectionPool, "urlopen"),
    "read": (urllib3.response.HTTPResponse, "stream"),
    "parse": (botocore.parsers.RestJSONParser, "parse"),
    "page": (botocore.paginate.PageIterator, "__iter__"),
}


@pytest.fixture
def source(monkeypatch):
    """A source that takes its credentials from the environment, asks once, and repeats nothing."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    stop = threading.Event()
    stop.set()
    with Answers(reply(b'{"sessions": []}')) as answers:
        source = Source(SourceSettings(endpoint_url=answers.url), Endpoint(answers.url), stop)
        source.fetch_page(SESSIONS, SLICE, 1, None, None)
        yield source


def failing_at(place, source, monkeypatch):
    """Yield each exception that is raised at a place, and what came of it; no client is left from before."""
    owner, name = PLACES[place]
    for found in EVERY.values():
        exc, fired = raised(found), []

        def fail(*_args, exc=exc, fired=fired, **_kwargs):
            fired.append(1)
            raise exc

        if place in {"make a client", "load credentials"}:
            source._paginators.clear()
            source._made.clear()
            source._clients._core._credentials = None
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            try:
                source.fetch_page(SESSIONS, SLICE, 1, None, None)
            except Exception as caught:  # noqa: BLE001  whatever comes
                became = caught
            else:
                became = None
        assert fired, "the place is on the way"
        yield exc, became


PROVIDERS = {"make a client", "load credentials", "renew credentials"}


@pytest.mark.parametrize("place", PLACES)
def test_every_fault_at_every_place_becomes_an_error_of_ours_that_names_the_page(source, monkeypatch, place):
    for exc, became in failing_at(place, source, monkeypatch):
        assert isinstance(became, EtlError), (exc, became)
        assert str(became).startswith(PLACE), (exc, became)
        assert "\n" not in str(became)
        if place in {"send", "connect", "read"} and isinstance(exc, NETWORK):
            assert type(became) is TransientSourceError, "worth another try"
        if place in PROVIDERS:
            assert type(became) in {CredentialsError, TransientSourceError}, "resumable, and foreseen"


@pytest.mark.parametrize("place", sorted(PROVIDERS))
def test_whatever_a_provider_raises_is_the_operators_before_the_first_page(source, monkeypatch, place):
    source._has_walked = False
    for exc, became in failing_at(place, source, monkeypatch):
        assert type(became) in {ConfigError, TransientSourceError}, (exc, became)
