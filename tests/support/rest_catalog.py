"""A REST catalog of Iceberg on loopback: the part of its protocol that registering and reading tables needs.

What it is told it hands on to pyiceberg's catalog in SQLite, which checks the requirements of a commit.
"""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

from pyiceberg.catalog.rest import TableResponse
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableRequest, CommitTableResponse

_STATUS = {
    NoSuchTableError: 404, NamespaceAlreadyExistsError: 409, TableAlreadyExistsError: 409, CommitFailedException: 409,
}  # fmt: skip
TOKEN = "a-token-of-the-test"


@contextmanager
def rest_catalog(**properties):
    """Yield the URL of a catalog, which asks for the token `TOKEN`; its tables are in one with these properties."""
    catalog = SqlCatalog("rest", **properties)
    one_at_a_time = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer("")

        def do_HEAD(self):
            self.answer("")

        def do_POST(self):
            self.answer(self.rfile.read(int(self.headers["Content-Length"])))

        def answer(self, body):
            names = self.path.partition("?")[0].split("/")[2:]
            try:
                if self.headers["Authorization"] != f"Bearer {TOKEN}":
                    status, content = 401, _error("NotAuthorizedException", "no such token")
                else:
                    with one_at_a_time:
                        status, content = 200, respond(names, body)
            except tuple(_STATUS) as exc:
                status, content = _STATUS[type(exc)], _error(type(exc).__name__, str(exc))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    def respond(names, body):
        match names:
            case ["config"]:
                return b'{"defaults": {}, "overrides": {}}'
            case ["namespaces"]:
                catalog.create_namespace(tuple(json.loads(body)["namespace"]))
                return body
            case ["namespaces", namespace, "tables"]:
                wanted = json.loads(body)
                schema = Schema.model_validate(wanted["schema"])
                staged = catalog._create_staged_table(
                    (namespace, wanted["name"]), schema, properties=wanted["properties"]
                )
                return TableResponse(metadata=staged.metadata).model_dump_json(by_alias=True).encode()
            case ["namespaces", namespace, "tables", name] if body:
                wanted = CommitTableRequest.model_validate_json(body)
                table = SimpleNamespace(name=lambda: (namespace, name))
                done = catalog.commit_table(table, wanted.requirements, wanted.updates)
                return CommitTableResponse.model_validate(done.model_dump(by_alias=True)).model_dump_json().encode()
            case ["namespaces", namespace, "tables", name]:
                table = catalog.load_table((namespace, name))
                found = {"metadata-location": table.metadata_location, "metadata": table.metadata}
                return TableResponse(**found).model_dump_json(by_alias=True).encode()
        raise AssertionError(names)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        catalog.close()


def _error(kind, message):
    return json.dumps({"error": {"message": message, "type": kind, "code": 400}}).encode()
