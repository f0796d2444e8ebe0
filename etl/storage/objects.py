"""A prefix of a bucket as the store of a warehouse. The only room that imports obstore.

What a put has accepted is whole and durable, so nothing is synced here. Two promises of S3 carry the warehouse: a put
that must make a new object, and a put that must replace the one that was read, each land for one writer only. A store
that ignores such conditions is refused before the first request to the source.

Errors are those of Python: FileNotFoundError, PermissionError, and OSError for the rest.
"""

import datetime as dt
import errno
import io
import json
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

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

from etl.errors import DeniedError, StorageError, first_line
from etl.storage.disk import make_directory, storage_errors

if TYPE_CHECKING:
    import duckdb

    from etl.storage.lease import Lease

_RENEW = dt.timedelta(minutes=5)
"""After so long, credentials are asked for again. botocore renews them minutes before they end."""
_WHOLE_BYTES = 8 * 1024 * 1024
"""Objects up to this size are read in one request."""
_BUFFER_BYTES = 1024 * 1024
"""Of larger ones, at least so much is asked for."""
_MANY = 8
"""From so many objects on, one listing of their folders costs less than to ask for each."""
_SWAP_TRIES = 5
_TIMEOUT = dt.timedelta(seconds=60)

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


class ConditionError(OSError):
    """A conditional put was refused: another writer was first."""


class ObjectStore:
    """A prefix of a bucket as the store of a warehouse: see `storage.store.Store`.

    Args:
        uri: `s3://bucket/prefix`.
        bucket: how it is reached.
        keys: returns the credentials that are valid now; None: requests are not signed.
        lease: for how long a job that has died keeps the lock.

    Attributes:
        known_sizes: of objects that were written, read or listed, in bytes. A data file never changes.
    """

    def __init__(
        self, uri: str, bucket: Bucket, keys: Callable[[], Keys | None], lease: dt.timedelta = dt.timedelta(seconds=30)
    ) -> None:
        self.uri = uri.rstrip("/")
        self._bucket = bucket
        self._keys = keys
        self._lease_s = lease.total_seconds()
        self._lease: Lease | None = None
        self._tables: set[str] = set()
        self.known_sizes: dict[str, int] = {}
        name, _, prefix = self.uri.removeprefix("s3://").partition("/")
        is_open = keys() is None
        self._store = S3Store(
            name,
            prefix=prefix or None,
            config=bucket.config() | ({"aws_skip_signature": "true"} if is_open else {}),  # type: ignore[arg-type]
            client_options={"allow_http": (bucket.endpoint_url or "").startswith("http:"), "timeout": _TIMEOUT},
            credential_provider=None if is_open else self._signed,
        )

    def _signed(self) -> Any:
        key, secret, token = self._keys() or ("", "", None)
        expires_at = dt.datetime.now(dt.UTC) + _RENEW
        return {"access_key_id": key, "secret_access_key": secret, "token": token, "expires_at": expires_at}

    @property
    def local(self) -> Path | None:
        """Return None: it is no disk."""
        return None

    def at(self, *names: str) -> str:
        """Return the URI of what is below the prefix."""
        return "/".join((self.uri, *names))

    def _key(self, name: str) -> str:
        return name.removeprefix(self.uri).lstrip("/")

    def delta_options(self) -> dict[str, str] | None:
        """Return what deltalake needs to open tables here, with the credentials that are valid now."""
        keys = self._keys()
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        signed = {name: value for name, value in zip(names, keys, strict=True) if value} if keys else {}
        return {
            **self._bucket.config(),
            **(signed or {"aws_skip_signature": "true"}),
            "aws_conditional_put": "etag",
            "allow_http": str((self._bucket.endpoint_url or "").startswith("http:")).lower(),
        }

    def folders_with(self, name: str) -> list[str]:
        """Return the names of the folders directly below the prefix that have a folder of this name, sorted."""
        with _errors(self.uri):
            every = obstore.list_with_delimiter(self._store)["common_prefixes"]
            folders = [folder for folder in every if not folder.startswith(".")]  # packs are asked about elsewhere
            for folder in {*folders} - self._tables:
                if f"{folder}/{name}" in obstore.list_with_delimiter(self._store, prefix=folder)["common_prefixes"]:
                    self._tables.add(folder)
        return sorted(self._tables & {*folders})

    def exists(self, name: str) -> bool:
        """Tell whether an object is there."""
        return self._size(name) is not None

    def _size(self, name: str) -> int | None:
        try:
            with _errors(name):
                self.known_sizes[name] = size = int(obstore.head(self._store, self._key(name))["size"])
                return size
        except FileNotFoundError:
            return None

    def sizes(self, names: Iterable[str]) -> Iterator[tuple[str, int | None]]:
        """Yield objects with their sizes in bytes; None for one that is missing."""
        names = list(names)
        if len(names) < _MANY:
            yield from ((name, self._size(name)) for name in names)
            return
        found: dict[str, int] = {}
        for folder in {self._key(name).partition("/")[0] for name in names}:
            found |= self._list(self.at(folder))
        self.known_sizes |= {name: found[name] for name in names if name in found}
        yield from ((name, found.get(name)) for name in names)

    def listed(self, folder: str) -> dict[str, int]:
        """Return the objects below a folder, with their sizes in bytes."""
        found = self._list(folder)
        self.known_sizes |= found
        return found

    def _list(self, folder: str) -> dict[str, int]:
        with _errors(folder):
            pages = obstore.list(self._store, prefix=self._key(folder), chunk_size=1000)
            return {self.at(one["path"]): one["size"] for page in pages for one in page}

    def read(self, name: str) -> bytes | None:
        """Return the content of an object; None if it is missing."""
        found = self.get(name)
        return found[1] if found else None

    def get(self, name: str) -> tuple[str, bytes] | None:
        """Return the ETag and the content of an object; None if it is missing."""
        try:
            with _errors(name):
                found = obstore.get(self._store, self._key(name))
                return str(found.meta["e_tag"]), bytes(found.bytes())
        except FileNotFoundError:
            return None

    def put_new(self, name: str, content: bytes | Path) -> str:
        """Make an object and return its ETag.

        Raises:
            ConditionError: there is one already.
        """
        with _errors(name):
            return str(obstore.put(self._store, self._key(name), content, mode="create")["e_tag"])

    def replace(self, name: str, content: bytes | Path, e_tag: str) -> str:
        """Replace the object that had an ETag and return the new ETag.

        Raises:
            ConditionError: it has another one by now.
        """
        with _errors(name):
            mode: Any = {"e_tag": e_tag}
            return str(obstore.put(self._store, self._key(name), content, mode=mode)["e_tag"])

    def draft(self, name: str) -> Path:
        """Return the path of a file on this machine that does not exist yet."""
        return Path(self._drafts.name) / f"{uuid.uuid4().hex}-{name.rpartition('/')[2]}"

    @cached_property
    def _drafts(self) -> "tempfile.TemporaryDirectory[str]":
        try:
            return tempfile.TemporaryDirectory(prefix="nimble-etl-", ignore_cleanup_errors=True)
        except OSError as exc:
            then = "make room there, or name another directory in the variable TMPDIR"
            raise StorageError(f"{self.uri}: files for it are first written on this machine: {exc}; {then}") from exc

    def keep(self, draft: Path, name: str) -> None:
        """Upload a finished draft as a new object, and remove it here."""
        try:
            self.known_sizes[name] = draft.stat().st_size
            try:
                self.put_new(name, draft)
            except ConditionError:
                # Nobody else has this name: the answer was lost, and the client has asked once more.
                if self._size(name) != draft.stat().st_size:
                    raise
        finally:
            draft.unlink(missing_ok=True)

    def swap(self, draft: Path, name: str, made_of: Mapping[str, int]) -> None:
        """Upload a finished draft in the place of an older one, and remove it here.

        Raises:
            ConditionError: the one that is there was made of newer tables, or others were faster each time.
        """
        self.known_sizes[name] = draft.stat().st_size
        try:
            for _ in range(_SWAP_TRIES):
                try:
                    with _errors(name):
                        found = obstore.get(self._store, self._key(name), options={"head": True})
                        e_tag, theirs = found.meta["e_tag"], json.loads(found.attributes.get(_MADE_OF, "{}"))
                except FileNotFoundError:
                    e_tag, theirs = None, {}
                if any(version > made_of.get(table, -1) for table, version in theirs.items()):
                    raise ConditionError(errno.EAGAIN, "another job has put a newer one there")
                with suppress(ConditionError), _errors(name):
                    mode: Any = {"e_tag": e_tag} if e_tag else "create"
                    told: Any = {_MADE_OF: json.dumps(dict(made_of))}
                    obstore.put(self._store, self._key(name), draft, mode=mode, attributes=told)
                    return
            raise ConditionError(errno.EAGAIN, "other jobs were faster each time")
        finally:
            draft.unlink(missing_ok=True)

    def fetch(self, name: str) -> Path:
        """Return the path of a copy of an object on this machine, which is read again only if the object is another."""
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nimble-etl"
        folder = base / sha256(name.encode()).hexdigest()[:16]
        with storage_errors(folder):
            make_directory(folder, 0o700)
            known = {path.stem: path for path in folder.glob(f"*{Path(name).suffix}")}
        # Of several copies, which two processes have left, the answer would not say which one is the present one.
        options: Any = {"if_none_match": f'"{next(iter(known))}"'} if len(known) == 1 else {}
        try:
            with _errors(name):
                found = obstore.get(self._store, self._key(name), options=options)
                path = folder / f"{str(found.meta['e_tag']).strip(chr(34))}{Path(name).suffix}"
                with tempfile.NamedTemporaryFile(dir=folder, delete=False) as draft:
                    for part in found:
                        draft.write(part)
                Path(draft.name).replace(path)
        except NotModifiedError:
            return next(iter(known.values()))
        for former in {*known.values()} - {path}:
            former.unlink(missing_ok=True)  # whoever has it open keeps it
        return path

    def remove(self, name: str) -> None:
        """Remove an object if it is there."""
        with suppress(FileNotFoundError), _errors(name):
            obstore.delete(self._store, self._key(name))

    def discard(self, names: Iterable[str]) -> None:
        """Remove objects and ignore failures."""
        for name in names:
            with suppress(OSError):
                self.remove(name)

    def opened(self, name: str) -> IO[bytes]:
        """Return a file that reads an object: a small one as a whole, of a large one what is asked for."""
        with _errors(name):
            found = obstore.get(self._store, self._key(name))
            if found.meta["size"] <= _WHOLE_BYTES:
                return io.BytesIO(bytes(found.bytes()))
            return io.BufferedReader(_Ranges(self._store, self._key(name), found.meta["size"]), _BUFFER_BYTES)

    def connect(self, connection: "duckdb.DuckDBPyConnection") -> None:
        """Let a connection read objects of the prefix, and write none."""
        from etl.storage.reading import ReadOnly  # noqa: PLC0415  fsspec takes time to import

        connection.register_filesystem(ReadOnly(self))

    def check_writable(self) -> None:
        """Refuse a store that cannot be written, or that ignores conditions: two writers would destroy each other's.

        Raises:
            DeniedError: it cannot be written, or it ignores conditions.
            StorageError: it does not work now.
        """
        probe = self.at(".probe", uuid.uuid4().hex)
        try:
            first = self.put_new(probe, b"1")
            self._must_refuse("If-None-Match", lambda: self.put_new(probe, b"2"))
            self.replace(probe, b"3", first)
            self._must_refuse("If-Match", lambda: self.replace(probe, b"4", first))
            if self.read(probe) != b"3":
                raise self._unfit("answers that a condition does not hold, and writes all the same")
        except FileNotFoundError as exc:
            raise DeniedError(f"{self.uri}: {exc.strerror}; make the bucket, or correct warehouse.path") from exc
        except PermissionError as exc:
            needed = "grant s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket on it"
            raise DeniedError(f"{self.uri}: {exc.strerror}; {needed}, then run again") from exc
        except OSError as exc:
            raise StorageError.at(self.uri, exc) from exc
        finally:
            self.discard([probe])

    def _must_refuse(self, condition: str, put: Callable[[], object]) -> None:
        try:
            put()
        except ConditionError:
            return
        raise self._unfit(f"ignores {condition}")

    def _unfit(self, what: str) -> DeniedError:
        return DeniedError(
            f"{self.uri}: this store {what}, so two jobs could overwrite each other's commits; use AWS S3 or another "
            "store that honours conditional writes, or a directory as warehouse.path"
        )

    @contextmanager
    def locked(self, name: str, wait: dt.timedelta, stopped: Callable[[], bool]) -> Iterator[bool]:
        """Hold the lock that an object stands for: see `storage.lease`."""
        from etl.storage.lease import Lease  # noqa: PLC0415  which imports this module

        with Lease.taken(self, name, self._lease_s, wait, stopped) as lease:
            self._lease = lease
            try:
                yield lease.has_replaced
            finally:
                self._lease = None

    def still_locked(self) -> None:
        """Raise a StorageError if another job has taken the lock meanwhile, because this one seemed dead."""
        if self._lease:
            self._lease.confirm()

    def note(self, name: str) -> bytes | None:
        """Return what the holder of a lock has noted, or the last one before it has died; None if nothing."""
        from etl.storage.lease import note_in  # noqa: PLC0415  which imports this module

        if self._lease:
            return self._lease.note
        return note_in(self.read(name))

    def note_of(self, lock: str) -> str:
        """Return the lock: it has the note."""
        return lock

    def set_note(self, name: str, content: bytes | None) -> None:
        """Note something as the holder of the lock. Whoever takes the lock after this job has died finds it."""
        assert self._lease, f"{name}: nobody holds it"
        self._lease.set_note(content)


_MADE_OF = "made-of"


class _Ranges(io.RawIOBase):
    """An object whose bytes are asked for when they are read."""

    def __init__(self, store: S3Store, key: str, size: int) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._size - self._position)
        if count <= 0:
            return 0
        with _errors(self._key):
            read = obstore.get_range(self._store, self._key, start=self._position, length=count)
        buffer[:count] = bytes(read)
        self._position += count
        return count


@contextmanager
def _errors(name: str) -> Iterator[None]:
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
