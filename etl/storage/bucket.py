"""How a bucket is reached, and how its answers become what Python says: bytes of a file, and OSErrors."""

import errno
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotModifiedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from etl.errors import first_line
from etl.storage.store import ConditionError

Keys = tuple[str, str, str | None]
"""Access key id, secret access key, session token."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """How a bucket is reached.

    Attributes:
        region: of the bucket.
        endpoint_url: of another server than AWS; None: that of AWS.
        path_style: whether the bucket stands in the path of a URL, and not in its host.
        encryption: what the server encrypts with: `AES256` or `aws:kms`; None: what the bucket says.
        kms_key_id: the key for `aws:kms`; None: that of the account.
    """

    region: str
    endpoint_url: str | None = None
    path_style: bool = False
    encryption: str | None = None
    kms_key_id: str | None = None

    def config(self) -> dict[str, str]:
        """Return it in the words of object_store, which obstore and deltalake share."""
        found = {
            "aws_region": self.region,
            "aws_endpoint_url": self.endpoint_url,
            "aws_virtual_hosted_style_request": str(not self.path_style).lower(),
            "aws_server_side_encryption": self.encryption,
            "aws_sse_kms_key_id": self.kms_key_id,
        }
        return {name: value for name, value in found.items() if value}


class Ranges(io.RawIOBase):
    """An object whose bytes are asked for when they are read."""

    def __init__(self, store: S3Store, key: str, size: int) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, and return how many bytes that are."""
        count = min(len(buffer), self._size - self._position)
        if count <= 0:
            return 0
        with object_errors(self._key):
            read = obstore.get_range(self._store, self._key, start=self._position, length=count)
        buffer[:count] = bytes(read)
        self._position += count
        return count


@contextmanager
def object_errors(name: str) -> Iterator[None]:
    """Make an error of obstore one of Python."""
    try:
        yield
    except NotModifiedError:
        raise
    except (AlreadyExistsError, PreconditionError) as exc:
        raise ConditionError(errno.EAGAIN, "another writer was first", name) from exc
    except (PermissionDeniedError, UnauthenticatedError) as exc:
        raise PermissionError(errno.EACCES, _said(exc), name) from exc
    except FileNotFoundError as exc:
        raise FileNotFoundError(errno.ENOENT, _said(exc), name) from exc
    except BaseError as exc:
        raise OSError(errno.EIO, _said(exc), name) from exc


def _said(exc: Exception) -> str:
    """Return what the server says, otherwise what object_store says, without the debugging text after it."""
    text = str(exc).partition("\n\nDebug source")[0]
    told = re.search(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", text, re.DOTALL)
    return first_line(OSError(f"{told[1]}: {told[2]}" if told else " ".join(text.split())))
