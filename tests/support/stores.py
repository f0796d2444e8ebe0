"""The stores that a warehouse can be in, for tests that hold for each of them."""

import datetime as dt
import os
from pathlib import Path

import pytest

from etl.storage.disk import Disk
from etl.storage.objects import ObjectStore
from support.buckets import MINISTACK, prefix_of, running, started

THOROUGH = bool(os.environ.get("THOROUGH"))
_IN_FAULTS = pytest.mark.skipif(not THOROUGH or not MINISTACK.exists(), reason="`make faults` has this server too")
KINDS = ("disk", "moto", pytest.param("ministack", marks=_IN_FAULTS))
"""A disk, and the servers of S3 that two others wrote; the second of these in `make faults`."""


def store_of(kind: str, directory: Path, **options):
    """Return a store of a kind for a directory, which it fills if it is a disk."""
    return Disk(directory) if kind == "disk" else running(kind).store(prefix_of(directory), **options)


def as_another_process(store):
    """Return the same store as another process has it."""
    if store.local:
        return store
    return ObjectStore(store.uri, store._bucket, store._keys, dt.timedelta(seconds=store._lease_s))


def files_of(store, directory: Path) -> Path:
    """Return a directory with the files of a store as they are now: copies of objects, or the disk itself."""
    if store.local:
        return store.local
    server = next(one for one in started() if one.url == store._bucket.endpoint_url)
    return server.mirror(store.uri.removeprefix("s3://").partition("/")[2], directory)
