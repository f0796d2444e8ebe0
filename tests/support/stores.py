"""The stores that a warehouse can be in, for tests that hold for each of them."""

import os
import tempfile
from pathlib import Path

import duckdb
import pytest

from etl.model import CATALOG_NAME
from etl.storage.disk import Disk
from support.buckets import BUCKET, MINISTACK, Server, prefix_of, running, started

THOROUGH = bool(os.environ.get("THOROUGH"))
_IN_FAULTS = pytest.mark.skipif(not THOROUGH or not MINISTACK.exists(), reason="`make faults` has this server too")
KINDS = ("disk", "moto", pytest.param("ministack", marks=_IN_FAULTS))
"""A disk, and the servers of S3 that two others wrote; the second of these in `make faults`."""


def store_of(kind: str, directory: Path, **options):
    """Return a store of a kind for a directory, which it fills if it is a disk."""
    return Disk(directory) if kind == "disk" else running(kind).store(prefix_of(directory), **options)


def overwrite(store, name: str, content: bytes | None) -> None:
    """Change a file behind the job's back, as another program or a bad disk does; None removes it."""
    if store.local and content is None:
        Path(name).unlink()
    elif store.local:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)
    else:
        at = {"Bucket": BUCKET, "Key": name.removeprefix(f"s3://{BUCKET}/")}
        client = server_of(store).client()
        client.delete_object(**at) if content is None else client.put_object(**at, Body=content)


def address_of(store) -> tuple[str, str]:
    """Return what `store_at` makes the same store of, in another process too."""
    return store.uri, "" if store.local else store._bucket.endpoint_url


def store_at(uri: str, url: str):
    """Return a store as another job has it, which knows nothing of what this one has seen."""
    return Server(url).store(uri.removeprefix(f"s3://{BUCKET}/")) if url else Disk(Path(uri))


def as_another_process(store):
    """Return the same store as another process has it."""
    return store_at(*address_of(store))


def connect(store, *, read_only: bool = True, config: dict | None = None) -> duckdb.DuckDBPyConnection:
    """Return a connection to the catalog of a warehouse, or to a copy of it, as a program of its own would open it."""
    if store.local:
        path = store.local / CATALOG_NAME
    else:
        path = Path(tempfile.mkdtemp()) / CATALOG_NAME
        path.write_bytes(store.read(store.at(CATALOG_NAME)))
    connection = duckdb.connect(path, read_only=read_only, config=config or {})
    connection.execute("set TimeZone = 'UTC'")
    store.connect(connection)
    return connection


def server_of(store):
    """Return the server that a store is on; None for a disk."""
    if store.local:
        return None
    url = store._bucket.endpoint_url
    return next((one for one in started() if one.url == url), None) or Server(url)


def files_of(store, directory: Path) -> Path:
    """Return a directory with the files of a store as they are now: copies of objects, or the disk itself."""
    if store.local:
        return store.local
    return server_of(store).mirror(store.uri.removeprefix("s3://").partition("/")[2], directory)
