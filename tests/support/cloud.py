"""A whole AWS on loopback, which moto plays, and what plain boto3 says is in it, as rows of tables.

The conversion into rows is of its own: member by member of botocore's shapes, without anything of nimble-etl.
"""

import datetime as dt
import io
import json
import re
import threading
from functools import cache
from urllib.request import Request, urlopen

import boto3
import duckdb
from botocore import xform_name
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from etl.model import CATALOG_NAME

KEY = ("AKIDEXAMPLE", "not-a-secret")
REGION = "us-west-2"
ACCOUNT = "123456789012"
OWN_COLUMNS = {
    "record_sha256",
    "snapshot_date",
    "account_id",
    "region",
    "run_id",
    "slice_id",
    "page_number",
    "extracted_at",
    "extra",
}


class Cloud:
    """A whole AWS on loopback.

    `requests` has each request as a line of text, STS left out. `client` gives clients as boto3 makes them, without
    anything of nimble-etl.
    """

    def __init__(self):
        self.requests = []
        session = boto3.session.Session(*KEY, region_name=REGION)
        self.client = cache(lambda service: session.client(service, endpoint_url=self.url))
        application = DomainDispatcherApplication(create_backend_app)

        def record(environ, start_response):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            service = re.search(r"/([a-z0-9-]+)/aws4_request", environ.get("HTTP_AUTHORIZATION", ""))
            if service and service[1] != "sts":
                method, path, query = (environ[name] for name in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING"))
                target = environ.get("HTTP_X_AMZ_TARGET", "")
                self.requests.append(f"{service[1]} {method} {path}?{query} {target} {body!r}")
            return application(environ, start_response)

        self._server = make_server("127.0.0.1", 0, record, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        self._thread.start()
        # moto keeps what is in it for the whole process.
        urlopen(Request(f"{self.url}/moto-api/reset", method="POST")).close()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


def columns(shape, record, prefix=""):
    for name, value in record.items():
        member = shape.members[name]
        if member.type_name == "structure" and member.members:
            yield from columns(member, value, f"{prefix}{xform_name(name)}_")
        else:
            yield f"{prefix}{xform_name(name)}", plain(member, value)


def plain(shape, value):
    if shape.type_name == "timestamp":
        return value.astimezone(dt.UTC)
    if shape.type_name == "string" and isinstance(value, dict):
        return json.dumps(value)  # boto3 decodes IAM's policies
    if shape.type_name == "list":
        return [plain(shape.member, inner) for inner in value]
    if shape.type_name == "map":
        return [(key, plain(shape.value, inner)) for key, inner in value.items()]
    if shape.type_name == "structure":
        absent = dict.fromkeys(map(xform_name, shape.members))
        return absent | {xform_name(name): plain(shape.members[name], inner) for name, inner in value.items()}
    return value


def exported(job, dataset):
    """Return the rows of a dataset's view, by the columns of its API, without what is null."""
    with duckdb.connect(job.directory / "warehouse" / CATALOG_NAME, read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        found = connection.sql(f"from {dataset.name}").to_arrow_table()
    rows = found.to_pylist()
    assert {(row["account_id"], row["region"]) for row in rows} == {(ACCOUNT, REGION)}
    own = {*OWN_COLUMNS, *dataset.slice_columns.values()}
    renamed = {f"api_{name}": name for name in own}
    return [
        {renamed.get(name, name): value for name, value in row.items() if name not in own and value is not None}
        for row in rows
    ]
