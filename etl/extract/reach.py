"""Reaches the endpoint of a service without asking it for anything: whether it answers, and what its clock says."""

import datetime as dt
import os
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import botocore.exceptions as boto
from botocore.awsrequest import AWSRequest

from etl.errors import TransientSourceError, first_line
from etl.extract.clients import Clients
from etl.extract.redact import without_userinfo

_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass(frozen=True, slots=True)
class Reached:
    """An endpoint that has answered.

    Attributes:
        url: its address.
        answered_in_s: how long that took, the connection included [seconds].
        clock_s: by how much this machine's clock is ahead of the server's [seconds]; None if it does not say.
    """

    url: str
    answered_in_s: float
    clock_s: float | None


def reach(clients: Clients, service: str, region: str) -> Reached:
    """Send an unsigned request to the endpoint of a service. Whatever it answers, it was reached.

    Raises:
        ConfigError, CredentialsError: as `Clients.make`.
        TransientSourceError: nobody answers there.
    """
    client = clients.make(service, region)
    url = client.meta.endpoint_url
    began = time.monotonic()
    try:
        response = client._endpoint.http_session.send(AWSRequest("GET", url).prepare())  # noqa: SLF001  as it is sent to
    except (boto.HTTPClientError, boto.ConnectionError) as exc:
        clients.redact(exc)
        raise TransientSourceError(
            f"{service} in {region}: {first_line(exc)}; check the network, the proxy, the name of the Region and "
            "`source.endpoint_url`"
        ) from exc
    answered_in_s, now = time.monotonic() - began, dt.datetime.now(dt.UTC)
    try:
        clock_s = (now - parsedate_to_datetime(response.headers["date"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        clock_s = None
    return Reached(url, answered_in_s, clock_s)


def proxies() -> dict[str, str]:
    """Return the proxies that the environment names, without the passwords in them, by variable."""
    given = {name: os.environ.get(name) or os.environ.get(name.lower()) for name in _PROXIES}
    return {name: without_userinfo(value) for name, value in given.items() if value}
