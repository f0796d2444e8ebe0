"""Servers of S3 on loopback, each with one bucket, and what a fault between them and the job does.

moto and ministack are two servers that others wrote, without anything of each other.
"""

import atexit
import io
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from etl.storage.objects import Bucket, ObjectStore

KEY = ("AKIDEXAMPLE", "not-a-secret")
REGION = "us-east-1"
BUCKET = "a-bucket"


@dataclass
class Server:
    """A running server.

    Attributes:
        url: of it.
        requests: what it was asked, as (method, key); the key may be empty.
        faults: each is called with method, key and headers of a request, and names what happens to it: `lost` (it is
            carried out, and its answer is lost), `reset` (it is not carried out), a status (503, 409, 412), or None.
    """

    url: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    faults: list[Callable[[str, str, dict], str | None]] = field(default_factory=list)
    fired: list[str] = field(default_factory=list)

    def client(self):
        """Return S3 as boto3 asks it, without anything of nimble-etl."""
        return _client(self.url)

    def store(self, prefix: str, **options) -> ObjectStore:
        """Return a store below a prefix of the bucket."""
        bucket = Bucket(region=REGION, endpoint_url=self.url, path_style=True)
        return ObjectStore(f"s3://{BUCKET}/{prefix}", bucket, lambda: (*KEY, None), **options)

    def make_bucket(self) -> None:
        """Make the bucket if it is not there: `support.cloud` empties all that moto plays in this process."""
        if BUCKET not in {found["Name"] for found in self.client().list_buckets()["Buckets"]}:
            self.client().create_bucket(Bucket=BUCKET)

    def clear(self) -> None:
        """Remove all objects: moto has them in memory."""
        self.make_bucket()
        self.requests.clear()
        self.faults.clear()
        self.fired.clear()
        for page in self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            if found := [{"Key": one["Key"]} for one in page.get("Contents", ())]:
                self.client().delete_objects(Bucket=BUCKET, Delete={"Objects": found})
        self.requests.clear()

    def mirror(self, prefix: str, directory: Path) -> Path:
        """Copy what is below a prefix into a directory, as it is now, and return the directory."""
        client = self.client()
        there = set()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/"):
            for found in page.get("Contents", ()):
                path = directory / found["Key"].removeprefix(f"{prefix}/")
                there.add(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(client.get_object(Bucket=BUCKET, Key=found["Key"])["Body"].read())
        for path in directory.rglob("*"):
            if path.is_file() and path not in there:
                path.unlink()
        return directory


@cache
def _client(url: str):
    session = boto3.session.Session(*KEY, region_name=REGION)
    return session.client("s3", endpoint_url=url, config=boto3.session.Config(s3={"addressing_style": "path"}))


@contextmanager
def moto() -> Iterator[Server]:
    """Yield a server that moto plays."""
    application = DomainDispatcherApplication(create_backend_app)
    server = Server("")
    one_at_a_time = threading.Lock()  # moto looks at a condition, and then writes: two at once could both land

    def moto_does(environ, start_response):
        with one_at_a_time:
            return application(environ, start_response)

    def asked(environ, start_response):
        length = environ.get("CONTENT_LENGTH")
        body = environ["wsgi.input"].read(int(length or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        method, key = environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix(f"/{BUCKET}").lstrip("/")
        if environ["PATH_INFO"] != "/":  # or it asks which buckets there are
            server.requests.append((method, key))
        does = next((does for fault in server.faults if (does := fault(method, key, environ))), None)
        if does is None:
            return moto_does(environ, start_response)
        server.fired.append(does)
        if does.isdigit():
            start_response(f"{does} Fault", [("Content-Type", "application/xml")])
            code = {"412": "PreconditionFailed", "409": "ConditionalRequestConflict"}.get(does, "SlowDown")
            return [f"<Error><Code>{code}</Code><Message>a fault</Message></Error>".encode()]
        if does == "lost":
            list(moto_does(environ, lambda *_: None))
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return []

    web = make_server("127.0.0.1", 0, asked, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{web.server_port}"
    server.make_bucket()
    yield server
    web.shutdown()
    thread.join()
    web.server_close()


MINISTACK = Path(__file__).parents[2] / ".venv-ministack" / "bin" / "hypercorn"


@contextmanager
def ministack() -> Iterator[Server]:
    """Yield a server that ministack plays: a program, because it is pinned to another botocore."""
    command = [MINISTACK, "--bind", "127.0.0.1:0", "--worker-class", "asyncio", "ministack.app:app"]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    told = iter(program.stdout)
    (url,) = next(found for line in told if (found := re.findall(r"Running on (http://[0-9.]+:\d+)", line)))
    atexit.register(program.kill)
    threading.Thread(target=lambda: [None for _ in told], daemon=True).start()  # or its pipe would be full
    server = Server(url)
    server.make_bucket()
    yield server
    program.kill()
    program.wait()


APART = False
"""Whether moto runs in a process of its own: `pytest --store`. No faults can be injected there then."""
_PROGRAM = """
import sys
from support.buckets import moto

with moto() as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def moto_apart() -> Iterator[Server]:
    """Yield a server that moto plays in another process.

    While deltalake changes the properties of a table, it keeps the interpreter's lock: a server in this process could
    not answer it.
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", _PROGRAM]
    program = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    atexit.register(program.kill)
    yield Server(program.stdout.readline().strip())
    program.kill()
    program.wait()


def running(kind: str) -> Server:
    """Return the one server of a kind of this process; it runs until the process ends."""
    if kind not in _RUNNING:
        manager = {"moto": moto_apart if APART else moto, "ministack": ministack}[kind]()
        _RUNNING[kind] = manager, manager.__enter__()
    server = _RUNNING[kind][1]
    server.make_bucket()
    return server


def started() -> list[Server]:
    """Return the servers that run."""
    return [server for _, server in _RUNNING.values()]


_RUNNING: dict = {}
"""The servers with what keeps them: one that nobody holds would end."""


class _Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


def prefix_of(path: Path) -> str:
    """Return a prefix of its own for a directory of a test."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", str(path).strip("/"))
