"""A prefix of a bucket as the store of a warehouse.

What a put has accepted is whole and durable, so nothing is synced here. Two promises of S3 carry the warehouse: a put
that must make a new object, and a put that must replace the one that was read, each land for one writer only. A store
that ignores such conditions is refused before the first request to the source.

Errors are those of Python: FileNotFoundError, PermissionError, and OSError for the rest.
"""

import datetime as dt
import errno
import io
import json
import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import obstore
from obstore.exceptions import NotModifiedError
from obstore.store import S3Store

from etl.errors import StorageError
from etl.storage.bucket import Bucket, Keys, Ranges, object_errors
from etl.storage.disk import make_directory, storage_errors
from etl.storage.mirror import Mirror, cache_of
from etl.storage.probe import check_promises
from etl.storage.scratch import Scratch, draft_in
from etl.storage.store import ConditionError, Taken, Version

if TYPE_CHECKING:
    import duckdb

    from etl.storage.lease import Lease

_RENEW = dt.timedelta(minutes=5)
"""After so long, credentials are asked for again. botocore renews them minutes before they end."""
_WHOLE_BYTES = 8 * 1024 * 1024
"""Objects up to this size are read in one request."""
_BUFFER_BYTES = 1024 * 1024
"""Of larger ones, at least so much is asked for."""
_SMALL_BYTES, _SMALL_KEPT = 256 * 1024, 128
"""Data files below this size are kept in memory, but not more than so many."""
_MANY = 8
"""From so many objects on, one listing of their folders costs less than to ask for each."""
_SWAP_TRIES = 5
_MADE_OF = "made-of"
"""Attribute of a catalog with the versions of the tables in it."""
_TIMEOUT = dt.timedelta(seconds=60)


class ObjectStore:
    """A prefix of a bucket as the store of a warehouse: see `storage.store.Store`.

    Args:
        uri: `s3://bucket/prefix`.
        bucket: how it is reached.
        keys: returns the credentials that are valid now; None: requests are not signed.
        lease: for how long a job that has died keeps the lock.
        setting: name of the URI in the configuration.

    Attributes:
        known_sizes: of objects that were written, read or listed, in bytes. A data file never changes.
    """

    def __init__(
        self,
        uri: str,
        bucket: Bucket,
        keys: Callable[[], Keys | None],
        lease: dt.timedelta = dt.timedelta(seconds=30),
        setting: str = "warehouse.path",
    ) -> None:
        self.uri = uri.rstrip("/")
        self._setting = setting
        self._bucket = bucket
        self._keys = keys
        self._lease_s = lease.total_seconds()
        self._lease: Lease | None = None
        self._tables: set[str] = set()
        self._looked_at = -math.inf
        self._let_go: str | None = None
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
        with object_errors(self.uri):
            every = obstore.list_with_delimiter(self._store)["common_prefixes"]
        folders = {folder for folder in every if not folder.startswith(".")}  # packs are asked about elsewhere
        self._tables.update(folder for folder in folders - self._tables if self.mirror.look(f"{folder}/{name}"))
        return sorted(self._tables & {*folders})

    def tags_in(self, folder: str) -> dict[str, str]:
        """Return the names of the objects directly below a folder of a folder, with their ETags, without quotes.

        The holder of the lock hears of everything in the upper folder at once: it will ask for the sizes of these, too.
        """
        with object_errors(self.at(folder)):
            if self._lease:
                upper = folder.partition("/")[0]
                listed = [one for part in obstore.list(self._store, prefix=upper, chunk_size=1000) for one in part]
                self.known_sizes = {
                    name: size for name, size in self.known_sizes.items() if not name.startswith(self.at(upper, ""))
                } | {self.at(one["path"]): one["size"] for one in listed}
            else:
                listed = list(obstore.list_with_delimiter(self._store, prefix=folder)["objects"])
        self._looked_at = time.monotonic()
        found = {one["path"].rpartition("/"): str(one["e_tag"]).strip('"') for one in listed}
        return {name: e_tag for (at, _, name), e_tag in found.items() if at == folder}

    @cached_property
    def mirror(self) -> Mirror:
        """Return the copies on this machine."""
        return Mirror(self)

    def exists(self, name: str) -> bool:
        """Tell whether an object is there."""
        return self._size(name) is not None

    def _size(self, name: str) -> int | None:
        try:
            with object_errors(name):
                self.known_sizes[name] = size = int(obstore.head(self._store, self._key(name))["size"])
                return size
        except FileNotFoundError:
            return None

    def sizes(self, names: Iterable[str]) -> Iterator[tuple[str, int | None]]:
        """Yield objects with their sizes in bytes; None for one that is missing."""
        names = list(names)
        if self._lease and self.known_sizes.keys() >= {*names}:
            yield from ((name, self.known_sizes[name]) for name in names)
            return
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
        with object_errors(folder):
            pages = obstore.list(self._store, prefix=self._key(folder), chunk_size=1000)
            return {self.at(one["path"]): one["size"] for page in pages for one in page}

    def read(self, name: str) -> bytes | None:
        """Return the content of an object; None if it is missing."""
        found = self.get(name)
        return found[1] if found else None

    def get(self, name: str) -> tuple[str, bytes] | None:
        """Return the ETag and the content of an object; None if it is missing."""
        try:
            with object_errors(name):
                found = obstore.get(self._store, self._key(name))
                return str(found.meta["e_tag"]), bytes(found.bytes())
        except FileNotFoundError:
            return None

    def put(self, name: str, content: bytes | Path) -> str:
        """Make or replace an object and return its ETag."""
        with object_errors(name):
            return str(obstore.put(self._store, self._key(name), content)["e_tag"])

    def put_new(self, name: str, content: bytes | Path) -> str:
        """Make an object and return its ETag.

        Raises:
            ConditionError: there is one already.
        """
        with object_errors(name):
            return str(obstore.put(self._store, self._key(name), content, mode="create")["e_tag"])

    def replace(self, name: str, content: bytes | Path, e_tag: str) -> str:
        """Replace the object that had an ETag and return the new ETag.

        Raises:
            ConditionError: it has another one by now.
        """
        with object_errors(name):
            mode: Any = {"e_tag": e_tag}
            return str(obstore.put(self._store, self._key(name), content, mode=mode)["e_tag"])

    def draft(self, name: str) -> Path:
        """Return the path of a file on this machine that does not exist yet."""
        return self._drafts.path / f"{uuid.uuid4().hex}-{name.rpartition('/')[2]}"

    @cached_property
    def _drafts(self) -> Scratch:
        try:
            return Scratch()
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
                    with object_errors(name):
                        found = obstore.get(self._store, self._key(name), options={"head": True})
                        e_tag, theirs = found.meta["e_tag"], json.loads(found.attributes.get(_MADE_OF, "{}"))
                except FileNotFoundError:
                    e_tag, theirs = None, {}
                if any(version > made_of.get(table, -1) for table, version in theirs.items()):
                    raise ConditionError(errno.EAGAIN, "another job has put a newer one there")
                with suppress(ConditionError), object_errors(name):
                    mode: Any = {"e_tag": e_tag} if e_tag else "create"
                    told: Any = {_MADE_OF: json.dumps(dict(made_of))}
                    obstore.put(self._store, self._key(name), draft, mode=mode, attributes=told)
                    return
            raise ConditionError(errno.EAGAIN, "other jobs were faster each time")
        finally:
            draft.unlink(missing_ok=True)

    def fetch(self, name: str) -> Path:
        """Return the path of a copy of an object on this machine, which is read again only if the object is another."""
        folder = cache_of(name)
        with storage_errors(folder):
            make_directory(folder, 0o700)
            known = {path.stem: path for path in folder.glob(f"*{Path(name).suffix}")}
        # Of several copies, which two processes have left, the answer would not say which one is the present one.
        options: Any = {"if_none_match": f'"{next(iter(known))}"'} if len(known) == 1 else {}
        try:
            with object_errors(name):
                found = obstore.get(self._store, self._key(name), options=options)
                path = folder / f"{str(found.meta['e_tag']).strip(chr(34))}{Path(name).suffix}"
                with storage_errors(folder), draft_in(folder) as draft:
                    for part in found:
                        draft.write(part)
                    draft.close()
                    Path(draft.name).replace(path)
        except NotModifiedError:
            return next(iter(known.values()))
        for former in {*known.values()} - {path}:
            former.unlink(missing_ok=True)  # whoever has it open keeps it
        return path

    def remove(self, name: str) -> None:
        """Remove an object if it is there."""
        with suppress(FileNotFoundError), object_errors(name):
            self.known_sizes.pop(name, None)
            obstore.delete(self._store, self._key(name))

    def versions(self) -> dict[str, Version]:
        """Return the objects directly below the prefix, with their ETags."""
        with object_errors(self.uri):
            found = obstore.list_with_delimiter(self._store)["objects"]
        return {one["path"]: Version(str(one["e_tag"]), one["size"]) for one in found}

    def send(self, file: Path, name: str, former: str | None) -> str:
        """Upload a file, and return the ETag of the object."""
        if former is None:
            return self.put_new(name, file)
        try:
            return self.replace(name, file, former)
        except FileNotFoundError as exc:  # so AWS says that there is nothing to replace
            raise ConditionError(errno.EAGAIN, "another writer has removed it", name) from exc

    def receive(self, name: str, file: Path) -> str:
        """Download an object, and return its ETag."""
        with object_errors(name):
            found = obstore.get(self._store, self._key(name))
            with storage_errors(file), file.open("wb") as target:
                for part in found:
                    target.write(part)
            return str(found.meta["e_tag"])

    def discard(self, names: Iterable[str]) -> None:
        """Remove objects and ignore failures."""
        for name in names:
            with suppress(OSError):
                self.remove(name)

    def opened(self, name: str) -> IO[bytes]:
        """Return a file that reads an object: a small one as a whole, of a large one what is asked for."""
        if self.known_sizes.get(name, _SMALL_BYTES) < _SMALL_BYTES:
            return io.BytesIO(self._small(name))
        with object_errors(name):
            found = obstore.get(self._store, self._key(name))
            if found.meta["size"] <= _WHOLE_BYTES:
                return io.BytesIO(bytes(found.bytes()))
            return io.BufferedReader(Ranges(self._store, self._key(name), found.meta["size"]), _BUFFER_BYTES)

    @cached_property
    def _small(self) -> Callable[[str], bytes]:
        """Return what reads a small data file, which never changes: a night asks for the same ones again and again."""

        @lru_cache(_SMALL_KEPT)
        def content_of(name: str) -> bytes:
            with object_errors(name):
                return bytes(obstore.get(self._store, self._key(name)).bytes())

        return content_of

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
        check_promises(self, self._setting)

    @contextmanager
    def locked(self, name: str, wait: dt.timedelta, stopped: Callable[[], bool]) -> Iterator[Taken]:
        """Hold the lock that an object stands for: see `storage.lease`."""
        from etl.storage.lease import Lease  # noqa: PLC0415  which imports this module

        with Lease.taken(self, name, self._lease_s, wait, stopped) as lease:
            self._lease = lease
            try:
                yield Taken(lease.has_replaced, lease.found is not None and lease.found == self._let_go)
            finally:
                self._lease = None
        self._let_go = lease.e_tag

    def still_locked(self, *, is_new: bool = False) -> None:
        """Raise a StorageError if another job has taken the lock meanwhile, because this one seemed dead.

        Nothing is asked if the lock was held after the newest look at a log: what another holder has written there
        since refuses a commit on top of what was read. It has written nothing into a table that was made since.
        """
        if self._lease and (is_new or self._lease.held_at <= self._looked_at):
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
