"""Copies on this machine of objects in a bucket, for deltalake, which reads directories.

    bucket ──list──▶ names and ETags ──get what is new──▶ cache of this user ──copy──▶ directory of this process
    bucket ◀──put under a new name── a file that deltalake has written into that directory

A job asks once for the names below a folder, and then only for what this machine has not read before.
"""

import os
import shutil
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from etl.storage.disk import make_directory, put_in_place, storage_errors
from etl.storage.scratch import Scratch, draft_in

if TYPE_CHECKING:
    from etl.storage.objects import ObjectStore

_AT_ONCE = 8
"""How many objects are asked for at the same time."""


def cache_of(name: str) -> Path:
    """Return the directory of this user for copies of an object, or of a folder of objects."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nimble-etl"
    return base / sha256(name.encode()).hexdigest()[:16]


class Mirror:
    """A directory with copies of some objects. Not for several threads at the same time.

    Attributes:
        unread: folders whose names were asked for, and of which nothing was brought since.
    """

    def __init__(self, objects: "ObjectStore") -> None:
        self._objects = objects
        self._listed: dict[str, dict[str, str]] = {}
        self._here: dict[tuple[str, str], str] = {}
        self.unread: set[str] = set()

    @cached_property
    def _scratch(self) -> Scratch:
        return Scratch()

    @property
    def path(self) -> Path:
        """Return the directory, which is made when it is first asked for and goes with this object."""
        return self._scratch.path

    def look(self, folder: str) -> Collection[str]:
        """Ask for the names of the objects directly below a folder, and return them."""
        self._listed[folder] = self._objects.tags_in(folder)
        self.unread.add(folder)
        return self._listed[folder]

    def knows(self, folder: str) -> bool:
        """Tell whether a folder was looked at, and nothing has contradicted that since."""
        return folder in self._listed

    def forget(self, folder: str | None = None) -> None:
        """Let a folder, or each of them, be looked at again."""
        for one in [folder] if folder else [*self._listed]:
            self._listed.pop(one, None)
            self.unread.discard(one)

    def bring(self, folder: str, wanted: Callable[[Collection[str]], Iterable[str]]) -> None:
        """Copy the objects that are wanted, of those that the last look has found, and remove copies of former ones."""
        there, directory = self._listed[folder], self.path / folder
        directory.mkdir(parents=True, exist_ok=True)
        for at, name in [(at, name) for at, name in self._here if at == folder]:
            if there.get(name) != self._here[at, name]:
                (directory / name).unlink(missing_ok=True)
                del self._here[at, name]
        missing = [name for name in wanted(there) if (folder, name) not in self._here]
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            for name, e_tag in zip(missing, threads.map(lambda name: self._copy(folder, name), missing), strict=True):
                self._here[folder, name] = e_tag
        self.unread.discard(folder)
        with suppress(OSError):  # no cache, or another process has removed it
            cache = cache_of(self._objects.at(folder))
            kept = {_cached(name, e_tag) for name, e_tag in there.items()}
            for former in {*os.listdir(cache)} - kept if missing else ():  # noqa: PTH208  thousands of names
                (cache / former).unlink()

    def _copy(self, folder: str, name: str) -> str:
        """Copy an object from the cache, otherwise from the bucket, and return its ETag."""
        e_tag = self._listed[folder][name]
        cached = cache_of(self._objects.at(folder)) / _cached(name, e_tag)
        with suppress(OSError):  # it is not there, or cannot be read
            shutil.copyfile(cached, self.path / folder / name)
            return e_tag
        found = self._objects.get(self._objects.at(folder, name))
        if found is None:
            raise FileNotFoundError(2, "it was removed a moment ago; run again", self._objects.at(folder, name))
        e_tag, content = found[0].strip('"'), found[1]
        with storage_errors(self.path):
            (self.path / folder / name).write_bytes(content)
        self._cache(folder, name, e_tag)
        return e_tag

    def _cache(self, folder: str, name: str, e_tag: str) -> None:
        """Keep a copy for the next job. A machine that cannot keep one asks again."""
        with suppress(OSError):
            cache = cache_of(self._objects.at(folder))
            make_directory(cache, 0o700)
            with draft_in(cache) as draft:
                draft.write((self.path / folder / name).read_bytes())
                draft.close()
                put_in_place(Path(draft.name), cache / _cached(name, e_tag))  # a power loss must leave no half of it

    def publish(self, folder: str, names: Iterable[str]) -> None:
        """Put files of the directory that are new here, each under a new name. If one is refused, it is removed here.

        Raises:
            ConditionError: there is an object of that name already; it may be this one, and the answer was lost.
            OSError: it may have been put.
        """
        for name in names:
            if (folder, name) not in self._here:
                draft = self.path / folder / name
                try:
                    self._keep(folder, name, self._objects.put_new(self._objects.at(folder, name), draft))
                except OSError:
                    draft.unlink()
                    self.forget(folder)
                    raise

    def replace(self, folder: str, name: str) -> None:
        """Put a file of the directory under a name that may have an object."""
        self._keep(folder, name, self._objects.put(self._objects.at(folder, name), self.path / folder / name))

    def _keep(self, folder: str, name: str, quoted: str) -> None:
        e_tag = quoted.strip('"')
        self._here[folder, name] = self._listed.setdefault(folder, {})[name] = e_tag
        self._cache(folder, name, e_tag)


def _cached(name: str, e_tag: str) -> str:
    return f"{e_tag}-{name}"
