"""A server on loopback that answers with exactly the bytes that a test says, and sources that ask it.

For what the embedded studio does not do: other protocols, answers that are no HTTP, and who is told instead of asked.
"""

import json
import socketserver
import threading
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from etl.config import SourceSettings
from etl.extract.clients import Endpoint
from etl.extract.source import Source
from support.shapes import ACCOUNT

KEY = ("AKIDEXAMPLE", "not-a-secret")


def http(body: bytes = b"", status: str = "200 OK", length: Any = None, **headers: str) -> bytes:
    """Return an answer as bytes; Content-Length is right unless it is given, and left out where it is "none"."""
    lines = [f"HTTP/1.1 {status}", "Connection: close", "x-amzn-RequestId: request-1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if length != "none":
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Answers(socketserver.ThreadingTCPServer):
    """Answers each request with the next of `queue`, the last of them for ever; or with what `choose` says.

    Attributes:
        queue: answers as bytes.
        choose: path of a request -> its answer, instead of the queue.
        paths: of the requests, in order.
        sent: what each of them sent, in the same order: a JSON document, or else its parameters.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *queue: bytes) -> None:
        self.queue = list(queue)
        self.choose: Callable[[str], bytes] | None = None
        self.paths: list[str] = []
        self.sent: list[Any] = []
        super().__init__(("127.0.0.1", 0), _Connection)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.shutdown()
        self._thread.join()
        super().__exit__(*raised)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Connection(socketserver.StreamRequestHandler):
    server: Answers

    def handle(self) -> None:
        path = self.rfile.readline().decode().split(" ")[1]
        headers = {}
        while line := self.rfile.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = self.rfile.read(int(headers.get("content-length", 0)))
        form = body.decode() if "urlencoded" in headers.get("content-type", "") else urlsplit(path).query
        parameters = {name: value for name, (value,) in parse_qs(form, keep_blank_values=True).items()}
        self.server.paths.append(path)
        self.server.sent.append(json.loads(body) if body.startswith(b"{") else parameters)
        self.wfile.write(self._answer(path))

    def _answer(self, path: str) -> bytes:
        if self.server.choose:
            return self.server.choose(path)
        queue = self.server.queue
        return queue.pop(0) if len(queue) > 1 else queue[0]


def source_at(url: str, stop: threading.Event | None = None, account_id: str | None = ACCOUNT, **retry: Any) -> Source:
    """Return a source that repeats a failing request, without a pause, until it is told to stop."""
    settings = SourceSettings(endpoint_url=url, account_id=account_id, retry={"wait_max": 0, **retry})
    return Source(settings, Endpoint(url, KEY), stop or threading.Event())


def stopped_source_at(url: str, **options: Any) -> Source:
    """Return a source that was told to stop: it asks once and repeats nothing."""
    stop = threading.Event()
    stop.set()
    return source_at(url, stop, **options)
