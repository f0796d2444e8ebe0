"""Copies of closed ledgers, in a place that several machines share: the setting is `run.keep_ledgers_at`.

    job begins -> ledgers here become what their copies are -> job -> new and changed ledgers are copied

A copy is the authority. If another machine has replayed it, or has forgotten something in it, the ledger here is
replaced. If another machine has forgotten the whole run, the copy is empty, and the ledger here is removed.

Beside each ledger that has a copy stands a mark, `<run_id>.kept`: which version the copy had, and how the ledger was
then. So a ledger that was changed since is found without being read. A mark that is lost costs one download.
"""

import datetime as dt
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from etl.errors import LedgerError, StorageError
from etl.events import reach
from etl.ledger.directory import AT_ONCE, age_of, ledger_paths, mark_path, remove_ledger
from etl.ledger.ledger import Ledger
from etl.model import RunState
from etl.storage.disk import make_directory, not_writable, open_own, put_in_place, storage_errors
from etl.storage.store import ConditionError, Store, Version

log = logging.getLogger(__name__)

SETTING = "run.keep_ledgers_at"


@dataclass(frozen=True, slots=True)
class _Mark:
    """What is known here of a copy.

    Attributes:
        tag: the version of the copy.
        size_bytes, mtime_ns: of the ledger when it was as the copy.
        is_own: whether the run began on this machine.
    """

    tag: str
    size_bytes: int
    mtime_ns: int
    is_own: bool

    @classmethod
    def beside(cls, path: Path) -> "_Mark | None":
        """Return the mark of a ledger; None if it has none, or none that can be read."""
        try:
            return cls(**json.loads(mark_path(path).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    @classmethod
    def put(cls, path: Path, tag: str, *, is_own: bool) -> None:
        """Mark a ledger that nobody has open as being what its copy is."""
        with storage_errors(path):
            stat = path.stat()
            mark = cls(tag, stat.st_size, stat.st_mtime_ns, is_own)
            mark_path(path).write_text(json.dumps(asdict(mark)), encoding="utf-8")

    def describes(self, path: Path) -> bool:
        """Tell whether nothing was written to a ledger since."""
        stat, wal = path.stat(), Path(f"{path}-wal")
        is_empty = not wal.exists() or not wal.stat().st_size
        return is_empty and (stat.st_size, stat.st_mtime_ns) == (self.size_bytes, self.mtime_ns)


class Copies:
    """The copies in a store, for the ledgers of a state directory. Who calls `present` needs no lock, all others do."""

    def __init__(self, store: Store, state_dir: Path) -> None:
        self.store = store
        self._state_dir = state_dir
        self._runs = state_dir / "runs"
        self._draft = self._runs / "copy.new"
        self._there: dict[str, Version] = {}

    def check_writable(self) -> None:
        """Make the place if it is a directory: for its owner alone, as pages are there as they arrived.

        Raises:
            StorageError: it cannot be written.
        """
        if self.store.local:
            try:
                make_directory(self.store.local, 0o700)
            except OSError as exc:
                raise not_writable(self.store.local, SETTING, exc) from exc
        self.store.check_writable()

    def update(self, *, missing: bool = False) -> list[LedgerError]:
        """Make the ledgers here what their copies are; with `missing`, also fetch those that are not here.

        Returns why some copies cannot be read. The ledgers here stay then.

        Raises:
            StorageError: the store or the disk refused; the next job goes on.
        """
        failures = []
        remove_ledger(self._draft)  # of a job that was killed
        self._look()
        for name, version in self._there.items():
            path = self._runs / name
            mark = _Mark.beside(path)
            if path.exists() and mark and mark.tag == version.tag:
                continue
            if not version.size_bytes:
                if path.exists():
                    log.info("%s is removed: another machine has forgotten this run", name)
                    remove_ledger(path)
            elif path.exists() or missing:
                try:
                    self._fetch(name, is_own=path.exists() and (mark is None or mark.is_own))
                except LedgerError as exc:
                    failures.append(exc)
        return failures

    def _look(self) -> None:
        with storage_errors(self.store.uri):
            found = sorted(self.store.versions().items())
        self._there = {name: version for name, version in found if name.endswith(".sqlite")}

    def _fetch(self, name: str, *, is_own: bool) -> None:
        path = self._runs / name
        try:
            tag = self._receive(name, self._draft)
            with storage_errors(path):
                for suffix in ("-wal", "-shm"):  # of the former ledger: SQLite must not take them for those of this one
                    Path(f"{path}{suffix}").unlink(missing_ok=True)
                put_in_place(self._draft, path)
            reach("copy.fetched")
            _Mark.put(path, tag, is_own=is_own)
            log.info("%s is fetched from %s", name, self.store.uri)
        finally:
            remove_ledger(self._draft)

    def _receive(self, name: str, path: Path) -> str:
        """Write a copy to a new file, proven to be the ledger of a closed run; return the tag of its version."""
        place = self.store.at(name)
        with storage_errors(path):
            os.close(open_own(path, os.O_WRONLY | os.O_EXCL))
        with storage_errors(place):
            tag = self.store.receive(place, path)
        try:
            _check_closed(path, Path(name).stem)
        except LedgerError as exc:
            found = str(exc).partition("; ")[0].replace(str(path), place)
            then = "if a newer nimble-etl wrote it, use that; otherwise remove it"
            raise LedgerError(f"{found}; expected the ledger of the closed run {Path(name).stem}: {then}") from exc
        return tag

    def put(self, keep: dt.timedelta) -> list[str]:
        """Copy the closed ledgers that have no copy yet, or were changed since.

        Those of runs that began longer ago than `keep` get no new copy. Returns the names of ledgers whose copies are
        of another machine, because it was faster, or cannot be read here: these copies stay.

        Raises:
            StorageError: the store or the disk refused; the next job goes on.
        """
        behind = []
        for path in ledger_paths(self._state_dir):
            mark, there = _Mark.beside(path), self._there.get(path.name)
            if there and (not mark or mark.tag != there.tag):
                behind.append(path.name)
                continue
            if there and mark and mark.describes(path):
                continue
            if not there and (age_of(path) or dt.timedelta(0)) > keep:
                continue
            try:
                self._send(path, there.tag if there else None, is_own=mark is None or mark.is_own)
            except LedgerError as exc:
                log.warning("%s. It is not copied to %s", exc, self.store.uri)
            except ConditionError:
                log.warning("%s: another machine has changed its copy; the next job takes that", path.name)
                behind.append(path.name)
        return behind

    def _send(self, path: Path, former: str | None, *, is_own: bool) -> None:
        """Copy a ledger in the place of the version `former`, if its run is closed."""
        try:
            with Ledger.open(path) as ledger:
                if not _is_closed(ledger):
                    return
                self._make_draft()
                ledger.database.copy_to(self._draft)
            tag = self._put(path.name, former)
            reach("copy.sent")
            _Mark.put(path, tag, is_own=is_own)
        finally:
            remove_ledger(self._draft)

    def _make_draft(self) -> None:
        with storage_errors(self._draft):
            os.close(open_own(self._draft, os.O_WRONLY | os.O_EXCL))

    def _put(self, name: str, former: str | None) -> str:
        """Send the draft; return its tag. Raises a ConditionError if another machine was faster."""
        place = self.store.at(name)
        try:
            tag = self.store.send(self._draft, place, former)
        except ConditionError:
            raise
        except OSError as exc:
            then = "this copy of a ledger is missing or old, all else is done; the next job puts it there"
            raise StorageError.at(place, exc, then) from exc
        self._there[name] = Version(tag, self._draft.stat().st_size)
        return tag

    def bury(self, path: Path) -> None:
        """Remove a ledger for good. An empty object takes the place of its copy, so that other machines remove theirs.

        The copy goes first: a job that is killed in between removes the ledger as other machines do.

        Raises:
            StorageError: the store or the disk refused, or another machine was faster; the next job goes on.
        """
        there = self._there.get(path.name)
        try:
            self._make_draft()
            self._put(path.name, there.tag if there else None)
        except ConditionError as exc:
            why = "another machine has changed this copy of a ledger"
            raise StorageError.at(self.store.at(path.name), why, "run again") from exc
        finally:
            remove_ledger(self._draft)
        reach("copy.buried")
        remove_ledger(path)

    def remove_old(self, keep: dt.timedelta) -> None:
        """Delete the copies of runs that began longer ago than `keep`, as `remove_old_ledgers` deletes ledgers.

        Raises:
            StorageError: the store refused; the next job goes on.
        """
        old = [name for name in sorted(self._there)[:-1] if (age_of(Path(name)) or dt.timedelta(0)) > keep]
        for name in old[:AT_ONCE]:
            log.info("%s is deleted: run.keep_ledgers is %s", self.store.at(name), keep)
            with storage_errors(self.store.at(name)):
                self.store.remove(self.store.at(name))
            del self._there[name]
        if len(old) > AT_ONCE:
            log.warning("%d more copies are older than run.keep_ledgers; is the clock right?", len(old) - AT_ONCE)

    def present(self, ledgers: Iterable[Path], directory: Path) -> tuple[list[Path], list[LedgerError]]:
        """Return the ledgers as they are now, for who only reads, oldest first; and why some copies cannot be read.

        Of `ledgers`, these are those that have no copy, or whose copy is the one that is known here. All other copies
        are written into a directory.

        Raises:
            StorageError: the store or the disk refused.
            DeniedError: this user may not read the store.
        """
        self._look()
        found, failures = {}, []
        for path in ledgers:
            mark, there = _Mark.beside(path), self._there.get(path.name)
            if there is None or (mark and mark.tag == there.tag):
                found[path.name] = path
        for name, version in self._there.items():
            if name not in found and version.size_bytes:
                try:
                    self._receive(name, directory / name)
                    found[name] = directory / name
                except LedgerError as exc:
                    failures.append(exc)
        return [path for _, path in sorted(found.items())], failures


def own_last(ledgers: Iterable[Path]) -> list[Path]:
    """Return ledgers with those of runs that began on this machine last, otherwise in the same order."""
    return sorted(ledgers, key=lambda path: (mark := _Mark.beside(path)) is None or mark.is_own)


def _check_closed(path: Path, run_id: str) -> None:
    """Refuse a file that is not the ledger of this run, closed.

    Opening it gives it a write-ahead log. Without that, the first job that reads it would seem to have changed it.
    """
    with Ledger.open(path) as ledger:
        run = ledger.run()
        if run.run_id != run_id or not _is_closed(ledger):
            raise LedgerError(f"{path}: it is of run {run.run_id}, state {run.state}")


def _is_closed(ledger: Ledger) -> bool:
    """Tell whether nothing of a run is left to do."""
    return ledger.run().state not in {RunState.OPEN, RunState.IMPORTING} and not ledger.open_publications()
