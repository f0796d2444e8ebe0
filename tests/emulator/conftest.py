"""A real botocore client, and a raw HTTP client, for an embedded studio."""

import http.client
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from etl.emulator import EmbeddedStudio

MODELS = Path(__file__).parents[2] / "etl/extract/service_models"

Connect = Callable[..., Any]
Get = Callable[..., tuple[http.client.HTTPResponse, bytes]]


@pytest.fixture(scope="session")
def night() -> datetime:
    """A Tuesday night; two o'clock UTC is early evening at the first studio."""
    return datetime(2026, 11, 24, 2, tzinfo=UTC)


@pytest.fixture(scope="session")
def botocore_session() -> botocore.session.Session:
    """A session that knows the bundled service model."""
    session = botocore.session.Session()
    session.get_component("data_loader").search_paths.append(str(MODELS))
    return session


@pytest.fixture(scope="session")
def connect(botocore_session: botocore.session.Session) -> Connect:
    """Return a client of a studio: one attempt, a short time-out, parameters not validated on our side."""

    def connect(studio: EmbeddedStudio, service: str = "nimble", **changes: Any) -> Any:
        key_id, secret = changes.pop("credentials", studio.credentials)
        region = changes.pop("region", studio.world.region)
        config = Config(retries={"total_max_attempts": 1}, read_timeout=5, parameter_validation=False, **changes)
        return botocore_session.create_client(
            service,
            region_name=region,
            endpoint_url=studio.endpoint_url,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            config=config,
        )

    return connect


@pytest.fixture
def get() -> Get:
    """Return what a signed GET is answered with: response and body, whatever they are."""

    def get(studio: EmbeddedStudio, path: str, timeout_s: float = 5) -> tuple[http.client.HTTPResponse, bytes]:
        request = AWSRequest("GET", studio.endpoint_url + path)
        SigV4Auth(Credentials(*studio.credentials), "nimble", studio.world.region).add_auth(request)
        connection = http.client.HTTPConnection(studio.endpoint_url.removeprefix("http://"), timeout=timeout_s)
        try:
            connection.request("GET", path, headers=dict(request.headers))
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    return get
