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
from pathlib import Path

from deltalake import DeltaTable, Transaction
from deltalake.exceptions import DeltaError

from etl.errors import CommitUnknownError, EtlError, WarehouseError
from etl.events import reach
from etl.load.delta.log import append_entry, mend, said, sync_log
from etl.load.delta.stage import add_action, remove_action
from etl.load.delta.tables import Tables, data_files, file_facts
from etl.model import digest
from etl.storage.disk import put_in_place, storage_errors, sync_directory
from etl.storage.locks import locked

log = logging.getLogger(__name__)

_LOCK, _NOTE = ".lock", ".unfinished.json"
_SLICES = "etl_slices"
_WRITER = "nimble-etl/put-back"


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

    def __init__(self, path: Path, note: Note) -> None:
        self.sequence = note.versions.get(_SLICES, -1) + 2
        self._path = path
        self._note = note

    def intend(self, run_id: str, slices: Mapping[str, str | None]) -> None:
        """Add to the note what will be committed, so that the next job can finish it if this one dies.

        Raises:
            StorageError: the disk refused.
        """
        if not slices.items() <= self._note.slices.items():
            self._note = replace(self._note, run_id=run_id, slices={**self._note.slices, **slices})
            _write(self._path, self._note)


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
    with locked(tables.path / _LOCK, "warehouse.path", wait, stopped):
        mend(tables.path)
        path = tables.path / _NOTE
        if path.exists():
            note = _read(path)
            if not finish(note):
                log.warning("%s: a job ended between its commits; the tables are put back to what they were", path)
                _put_back(tables, note.versions)
                _remove(path)
        yield


@contextmanager
def all_or_nothing(tables: Tables, left: Note | None = None) -> Iterator[Change]:
    """Commit to several tables inside this block, whose caller holds the lock.

    If the block raises, its commits are undone, and the error goes on. With `left`, the note of a dead job, the block
    finishes what that job has begun: the commits of both count together, or both are undone.

    Raises:
        StorageError: the disk refused.
    """
    path, note = tables.path / _NOTE, left or Note(tables.versions())
    if not left:
        _write(path, note)
    reach("tables.noted")
    try:
        yield Change(path, note)
    except BaseException:
        try:
            _put_back(tables, note.versions)
            _remove(path)
        except EtlError as exc:
            log.error("%s. The next job puts the tables back", exc)  # noqa: TRY400  the first error goes on
        raise
    _remove(path)
    reach("tables.whole")


def freeze_whole(tables: Tables) -> bool:
    """Freeze the tables of a reader without a lock; tell whether none of them holds a part of a publication.

    It may be so because a job publishes at this moment, or has died while it did.
    """
    note = tables.path / _NOTE
    if note.exists():
        return False
    tables.freeze()
    return tables.is_current() and not note.exists()


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
        path, version = tables.path / name, versions.get(name, -1)
        if table.version() > version:
            try:
                former = dict(file_facts(DeltaTable(path, version=version), path)) if version >= 0 else {}
                now = {file for files in data_files(table).values() for file in files}
                lost = [file for file in former if file not in now and not (path / file).exists()]
                for file in lost:
                    log.error("%s: this data file is gone; run `nimble-etl verify`", path / file)
                back = [add_action(path, file, former[file]) for file in former.keys() - now - {*lost}]
                gone = [remove_action(path, file) for file in now - former.keys()]
                if back or gone:
                    before = table.version()
                    number = (table.transaction_version(_WRITER) or 0) + 1
                    append_entry(table, table.schema(), [*back, *gone], "put-back", Transaction(_WRITER, number))
                    sync_log(path, since=before)
            except (DeltaError, OSError) as exc:
                raise CommitUnknownError(
                    f"{path}: it cannot be put back to version {version}: {said(exc)}; run again"
                ) from exc
        tables.give_back(name, table)


def _write(path: Path, note: Note) -> None:
    content = {"versions": note.versions, "run_id": note.run_id, "slices": note.slices}
    draft = path.with_suffix(".new")
    with storage_errors(path):
        draft.write_text(json.dumps({**content, "sha256": digest(content)}))
        put_in_place(draft, path)


def _read(path: Path) -> Note:
    """Return the content of a note.

    Raises:
        WarehouseError: the note is damaged.
    """
    with storage_errors(path):
        text = path.read_bytes()
    try:
        content = json.loads(text)
        proof = content.pop("sha256")
        note = Note(**content) if proof == digest(content) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        note = None
    if note is None:
        raise WarehouseError(
            f"{path}: this note about an unfinished publication is damaged, so tables may hold half of it. Move the "
            "note away; then `nimble-etl verify` says which dates differ, and `nimble-etl replay --since DATE` writes "
            "them again"
        )
    return note


def _remove(path: Path) -> None:
    with storage_errors(path):
        path.unlink(missing_ok=True)
        sync_directory(path.parent)
