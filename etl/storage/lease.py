"""The lock of a warehouse in an object store: an object that says who holds it, and what that job has in hand.

    free ──put if unchanged──▶ held ──put if unchanged, again and again──▶ held ──put if unchanged──▶ free

Nobody deletes it, and every put has the condition that the object is as it was last read, so each change has one
winner. The holder writes it anew several times while the lease lasts. Who waits for it looks at the ETag: if that stays
the same for the time of a lease, by the clock of whoever waits, the holder has died or stands still, and the lock is
taken over. Clocks of machines are never compared.

A holder that only stood still may wake up. So it asks for the object once more between reading a table and committing
to it (`confirm`), and whoever has taken over writes an entry into the log of every table first: the commit of the other
one then comes too late, because its number in the log is taken.

The object also has the note of a publication that is under way: whoever loses the lock cannot change it any more.
"""

import base64
import datetime as dt
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from etl.errors import StorageError
from etl.storage.disk import storage_errors
from etl.storage.locks import Waiting
from etl.storage.objects import ObjectStore
from etl.storage.store import ConditionError

log = logging.getLogger(__name__)

_LOOKS, _RENEWALS = 10, 6
"""How often at least a lease is looked at by who waits for it, and renewed by its holder, in the time that it lasts."""
_LOOK_S = 0.5
"""The longest pause between two looks."""


def note_in(content: bytes | None) -> bytes | None:
    """Return the note in the content of a lock; None if there is none.

    Raises:
        StorageError: it is not the content of a lock.
    """
    found = _parse(content) if content else {}
    return base64.b64decode(found["note"]) if found.get("note") else None


class Lease:
    """A lock that this process holds.

    Attributes:
        note: what is noted in it.
        has_replaced: whether the lock was taken from a holder that seemed dead.
    """

    def __init__(self, store: ObjectStore, name: str, lease_s: float) -> None:
        self.note: bytes | None = None
        self.has_replaced = False
        self._store = store
        self._name = name
        self._lease_s = lease_s
        self._id = uuid.uuid4().hex
        self._puts = 0
        self._e_tag: str | None = None
        self._mutex = threading.Lock()
        self._ended = threading.Event()
        self._is_lost = False

    @classmethod
    @contextmanager
    def taken(
        cls, store: ObjectStore, name: str, lease_s: float, wait: dt.timedelta, stopped: Callable[[], bool]
    ) -> Iterator[Self]:
        """Hold the lock inside the block.

        Raises:
            LockedError: another job holds it and has not let it go in time.
            StoppedError: `stopped` became true.
            StorageError: the store refused.
        """
        lease = cls(store, name, lease_s)
        with storage_errors(name):
            lease._take(wait, stopped)
        renewal = threading.Thread(target=lease._renew, name="renews the lock of the warehouse", daemon=True)
        renewal.start()
        try:
            yield lease
        finally:
            lease._ended.set()
            renewal.join()
            lease._let_go()

    def confirm(self) -> None:
        """Return if this process held the lock when this was called.

        Raises:
            StorageError: another job has taken it, or the store does not answer.
        """
        self._hold()

    def set_note(self, content: bytes | None) -> None:
        """Note something. Raises as `confirm`."""
        self._hold(content)

    def _hold(self, *noted: bytes | None) -> None:
        """Write the object anew, with another note if one is given."""
        with storage_errors(self._name), self._mutex:
            if not self._is_lost:
                try:
                    return self._put(noted[0] if noted else self.note, held=True)
                except ConditionError:
                    self._is_lost = True
            raise StorageError(
                f"{self._name}: another job has taken the lock, because this one stood still for longer than "
                "warehouse.s3.lease; nothing more is committed. Run again"
            )

    def _take(self, wait: dt.timedelta, stopped: Callable[[], bool]) -> None:
        waiting = Waiting(self._name, wait, stopped)
        seen, since = "", time.monotonic()
        while True:
            found = self._store.get(self._name)
            e_tag, content = found or (None, b"")
            holder = _parse(content) if content else {}
            if e_tag != seen:
                seen, since = e_tag or "", time.monotonic()
            is_dead = time.monotonic() - since > self._lease_s
            if not holder.get("holder") or is_dead:
                self._e_tag = e_tag
                try:
                    self._put(note_in(content), held=True)
                except ConditionError:
                    continue
                self.has_replaced = bool(holder.get("holder"))
                if self.has_replaced:
                    log.warning("%s: %s is dead or stands still; its lock is taken over", self._name, holder["holder"])
                return
            waiting.go_on(holder["holder"], min(_LOOK_S, self._lease_s / _LOOKS))

    def _put(self, note: bytes | None, *, held: bool) -> None:
        """Write the object anew; raise a ConditionError if it is not as this process has left it."""
        self._puts += 1
        who = f"process {os.getpid()} on {socket.gethostname()}, since {dt.datetime.now(dt.UTC):%FT%TZ}"
        content = {
            "holder": who if held else None,
            "id": f"{self._id}-{self._puts}",
            "note": base64.b64encode(note).decode() if note else None,
        }
        text = json.dumps(content).encode()
        try:
            if self._e_tag is None:
                self._e_tag = self._store.put_new(self._name, text)
            else:
                self._e_tag = self._store.replace(self._name, text, self._e_tag)
        except ConditionError:
            # The answer to a put that has landed may have been lost, and the client has asked again.
            found = self._store.get(self._name)
            if found is None or _parse(found[1]).get("id") != content["id"]:
                raise
            self._e_tag = found[0]
        self.note = note

    def _renew(self) -> None:
        while not self._ended.wait(self._lease_s / _RENEWALS) and not self._is_lost:
            try:
                self._hold()
            except StorageError as exc:
                log.warning("%s", exc)

    def _let_go(self) -> None:
        try:
            with self._mutex:
                if not self._is_lost:
                    self._put(self.note, held=False)
        except OSError as exc:
            log.warning("%s: the lock could not be let go: %s", self._name, exc.strerror)


def _parse(content: bytes) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(content)
    except ValueError:
        found = {}
    if not isinstance(found, dict) or "id" not in found:
        raise StorageError("the lock of the warehouse is damaged: remove the object `.lock` when no job is at work")
    return found
