"""Commits to several tables that count all together or not at all.

    take the lock -> note the version of every table -> commit to tables -> remove the note

Delta commits one table at a time. A job that dies between two commits leaves its note. The next job takes the lock. If
it has the ledger that the note speaks of, with the same pages, it finishes the publication. Otherwise, on another
machine or after a loss, it puts every table back to the version in the note. So nobody builds a catalog of half a
publication. The files that a commit replaced are still there: `vacuum` takes the same lock, so it removes nothing
while there is a note.

Every job that commits holds the lock. One that does not is found by deltalake: its commit and ours conflict.
"""

import datetime as dt
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from deltalake import Transaction
from deltalake.exceptions import CommitFailedError, DeltaError

from etl.errors import CommitUnknownError, EtlError, WarehouseError
from etl.events import reach
from etl.load.delta.commit import add_action, remove_action
from etl.load.delta.log import append_entry, delta_table, mend, said, sync_log
from etl.load.delta.tables import Tables, data_files, file_facts
from etl.model import digest
from etl.storage.disk import storage_errors
from etl.storage.store import Store

log = logging.getLogger(__name__)

_LOCK = ".lock"
_SLICES = "etl_slices"
_WRITER, _LOCK_WRITER = "nimble-etl/put-back", "nimble-etl/lock"
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Note:
    """What a job leaves in the warehouse while it commits to several tables.

    `versions` are those of all tables before. `slices` are the ids of the slices that run `run_id` publishes, each with
    the digest of its pages; empty until the first of them is planned, and for a replay.
    """

    versions: Mapping[str, int]
    run_id: str = ""
    slices: Mapping[str, str | None] = field(default_factory=dict)


class Change:
    """One change of several tables. `sequence` is its number: larger than that of every earlier one."""

    def __init__(self, store: Store, note: Note) -> None:
        self.sequence = note.versions.get(_SLICES, -1) + 2
        self._store = store
        self._note = note

    def began_at(self, versions: Mapping[str, int]) -> bool:
        """Tell whether tables had these versions when the change began; -1: there was no table."""
        return all(self._note.versions.get(name, -1) == version for name, version in versions.items())

    def intend(self, run_id: str, slices: Mapping[str, str | None]) -> None:
        """Add to the note what will be committed, so that the next job can finish it if this one dies.

        Raises:
            StorageError: the disk refused.
        """
        if not slices.items() <= self._note.slices.items():
            self._note = replace(self._note, run_id=run_id, slices={**self._note.slices, **slices})
            _write(self._store, self._note)


@contextmanager
def alone(
    tables: Tables,
    wait: dt.timedelta,
    stopped: Callable[[], bool] = lambda: False,
    finish: Callable[[Note], bool] = lambda _: False,
) -> Iterator[None]:
    """Hold the lock of a warehouse whose tables are whole: what a dead job left half done is put back first.

    `finish` may finish it instead, and tells whether it did.

    Raises:
        LockedError: another job has not let the lock go in time.
        StoppedError: `stopped` became true.
        StorageError: the disk refused.
        WarehouseError: a table that must be put back cannot be read.
    """
    store = tables.store
    with store.locked(store.at(_LOCK), wait, stopped) as taken:
        if taken.has_replaced:
            _come_first(tables)
        mend(store)
        with tables.alone(is_untouched=taken.is_untouched):
            note = _read(store)
            if note and not finish(note):
                log.warning("%s: a job ended between its commits; the tables are put back to what they were", store.uri)
                _put_back(tables, note.versions)
                _write(store, None)
            yield


@contextmanager
def all_or_nothing(tables: Tables, left: Note | None = None) -> Iterator[Change]:
    """Commit to several tables inside this block, whose caller holds the lock.

    If the block raises, its commits are undone, and the error goes on. With `left`, the note of a dead job, the block
    finishes what that job has begun: the commits of both count together, or both are undone.

    Raises:
        StorageError: the disk refused.
    """
    store, note = tables.store, left or Note(tables.versions())
    if not left:
        _write(store, note)
    reach("tables.noted")
    try:
        yield Change(store, note)
    except BaseException:
        try:
            _put_back(tables, note.versions)
            _write(store, None)
        except EtlError as exc:
            log.error("%s. The next job puts the tables back", exc)  # noqa: TRY400  the first error goes on
        raise
    _write(store, None)
    reach("tables.whole")


def freeze_whole(tables: Tables) -> bool:
    """Freeze the tables of a reader without a lock; tell whether none of them holds a part of a publication.

    It may be so because a job publishes at this moment, or has died while it did.
    """
    if _is_noted(tables.store):
        return False
    tables.freeze()
    return tables.is_current() and not _is_noted(tables.store)


@contextmanager
def undone_if_it_fails(tables: Tables) -> Iterator[None]:
    """Put back what a part of a larger change has committed if that part raises an error, and let the error go on."""
    versions = tables.versions()
    try:
        yield
    except Exception:
        _put_back(tables, versions)
        raise


def _put_back(tables: Tables, versions: Mapping[str, int]) -> None:
    """Make every table name the files that it named in these versions, in a new version. Columns that came stay."""
    for name in tables.names():
        table = tables.take(name)
        if table is None:
            continue
        store, version = tables.store, versions.get(name, -1)
        if table.version() > version:
            try:
                former = dict(file_facts(store, name, delta_table(store, name, version))) if version >= 0 else {}
                now = {file for files in data_files(table).values() for file in files}
                there = dict(store.sizes(store.at(name, file) for file in former.keys() - now))
                lost = {file for file, size in there.items() if size is None}
                for file in lost:
                    log.error("%s: this data file is gone; run `nimble-etl verify`", file)
                back = [
                    add_action(file, former[file]) for file in former.keys() - now if store.at(name, file) not in lost
                ]
                gone = [remove_action(store, name, file) for file in now - former.keys()]
                if back or gone:
                    before = table.version()
                    number = (table.transaction_version(_WRITER) or 0) + 1
                    transaction = Transaction(_WRITER, number)
                    append_entry(store, name, table, table.schema(), [*back, *gone], "put-back", transaction)
                    sync_log(store, name, since=before)
            except (DeltaError, OSError) as exc:
                raise CommitUnknownError(
                    f"{store.at(name)}: it cannot be put back to version {version}: {said(exc)}; run again"
                ) from exc
        tables.give_back(name, table)


def _come_first(tables: Tables) -> None:
    """Append an entry to the log of every table: what a former holder of the lock commits now comes too late."""
    for name in tables.names():
        for _ in range(_TRIES):
            table = tables.take(name)
            if table is None:
                break
            number = (table.transaction_version(_LOCK_WRITER) or 0) + 1
            try:
                append_entry(tables.store, name, table, table.schema(), [], "lock", Transaction(_LOCK_WRITER, number))
            except CommitFailedError:
                continue  # that was its commit; the tables are put back below
            except (DeltaError, OSError) as exc:
                raise CommitUnknownError(f"{tables.store.at(name)}: {said(exc)}; run again") from exc
            tables.give_back(name, table)
            break


def _write(store: Store, note: Note | None) -> None:
    lock = store.at(_LOCK)
    with storage_errors(store.note_of(lock)):
        if note is None:
            store.set_note(lock, None)
        else:
            content = {"versions": note.versions, "run_id": note.run_id, "slices": note.slices}
            store.set_note(lock, json.dumps({**content, "sha256": digest(content)}).encode())


def _read(store: Store) -> Note | None:
    """Return the note of a job that has died; None without one.

    Raises:
        WarehouseError: the note is damaged.
    """
    place = store.note_of(store.at(_LOCK))
    with storage_errors(place):
        text = store.note(store.at(_LOCK))
    if text is None:
        return None
    try:
        content = json.loads(text)
        proof = content.pop("sha256")
        note = Note(**content) if proof == digest(content) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        note = None
    if note is None:
        raise WarehouseError(
            f"{place}: this note about an unfinished publication is damaged, so tables may hold half of it. "
            "Move the note away; then `nimble-etl verify` says which dates differ, and `nimble-etl replay --since "
            "DATE` writes them again"
        )
    return note


def _is_noted(store: Store) -> bool:
    with storage_errors(store.note_of(store.at(_LOCK))):
        return store.note(store.at(_LOCK)) is not None
