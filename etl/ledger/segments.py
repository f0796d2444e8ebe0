"""The ledger of a task, kept as a chain of files in a store: where one worker has died, another goes on.

    _tasks/<run>/000001.plan               which tasks there are, generation by generation
    _tasks/<run>/<task>/000001.segment     the pages and slices that came first
    _tasks/<run>/<task>/000002.segment     what came then

The name of a segment is its number, and it is written only if nobody has written it before. So of two workers on one
task, such as a second attempt beside one that seemed dead, exactly one extends the chain. The other finds out, and goes
on behind what is there.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Self

from etl.errors import LedgerError
from etl.ledger.database import Database, sqlite_errors
from etl.ledger.format import SCHEMA
from etl.ledger.ledger import Ledger
from etl.model import Page, RunFacts, Slice, SliceState
from etl.storage.disk import storage_errors
from etl.storage.scratch import Scratch
from etl.storage.store import ConditionError, Store

_FOLDER = "_tasks"
"""Below the store: in a warehouse, it is no table, for it has no log."""
_SUFFIX = ".segment"
_SEGMENT = f"create table segment (run_id text not null, task text not null); {SCHEMA}"
_WALKED = ("attempt", "state", "first_starting_token", "starting_token", "error", "resumable")
"""What a walk changes of a slice."""


class OvertakenError(Exception):
    """Another worker has extended the chain of this task."""


@dataclass(frozen=True, slots=True)
class Size:
    """When what waits becomes a segment: at so many pages or bytes, or when the first of them is so many seconds old.

    If a worker dies, this much is asked for once more, and what its threads have under way.
    """

    pages: int = 64
    size_bytes: int = 16 * 1024 * 1024
    seconds: float = 60


@dataclass(frozen=True, slots=True)
class Segments:
    """The chains of all tasks of one run.

    Its functions raise a StorageError if the store refuses, and a LedgerError if a file is missing or damaged.
    """

    store: Store
    run_id: str

    def planned(self, generation: int) -> list[list[str]] | None:
        """Return the tasks of a generation, each as the ids of its slices; None if it was never planned."""
        name = self._at(f"{generation:06}.plan")
        with storage_errors(name):
            text = self.store.read(name)
        try:
            return None if text is None else [[str(slice_id) for slice_id in ids] for ids in json.loads(text)]
        except (ValueError, TypeError) as exc:
            raise LedgerError(f"{name}: the plan of this run is damaged; run with --fresh") from exc

    def plan(self, generation: int, tasks: list[list[str]]) -> list[list[str]]:
        """Plan the tasks of a generation, and return those that were planned first.

        So who goes on with a run finds the chains that its workers have written.
        """
        if self._is_first(self._at(f"{generation:06}.plan"), json.dumps(tasks).encode()):
            return tasks
        return self.planned(generation) or []

    def put(self, task: str, number: int, content: bytes) -> None:
        """Extend the chain of a task by a segment, durably.

        Raises:
            OvertakenError: the chain has a segment of this number.
        """
        if not self._is_first(self._segment(task, number), content):
            raise OvertakenError(task)

    def adopt(self, ledger: Ledger, task: str, slice_ids: Iterable[str]) -> int:
        """Make a ledger say of the slices of a task what its chain says; return how many segments the chain has.

        The slices must be planned. Those that are published stay as they are: their pages are what was published.
        """
        with storage_errors(self._at(task)):
            found = sorted(name for name in self.store.listed(self._at(task)) if name.endswith(_SUFFIX))
        names = [self._segment(task, number) for number in range(1, len(found) + 1)]
        if found != names:
            raise LedgerError(f"{min(set(names) - set(found))}: this segment is missing; run with --fresh")
        with ledger.database.transaction() as connection:
            connection.execute("create temporary table if not exists adopted (slice_id text primary key)")
            connection.execute("delete from adopted")
            connection.executemany(
                "insert into adopted select slice_id from slice where slice_id = ? and publication is null",
                [(slice_id,) for slice_id in slice_ids],
            )
            connection.execute("delete from page where slice_id in (select slice_id from adopted)")
            connection.execute(
                "update slice set state = 'walking', starting_token = first_starting_token, error = null, resumable = 0"
                " where slice_id in (select slice_id from adopted)"
            )
            for name in names:
                with storage_errors(name):
                    content = self.store.read(name)
                _take_over(connection, name, content or b"", self.run_id, task)
        return len(names)

    def _is_first(self, name: str, content: bytes) -> bool:
        """Write a file durably if there is none of its name; tell whether there was none."""
        with Scratch() as directory:
            draft = directory / "draft"
            with storage_errors(draft):
                draft.write_bytes(content)
            with storage_errors(name):
                try:
                    self.store.send(draft, name, None)
                except ConditionError:
                    return False
        return True

    def _at(self, *names: str) -> str:
        return self.store.at(_FOLDER, self.run_id, *names)

    def _segment(self, task: str, number: int) -> str:
        return self._at(task, f"{number:06}{_SUFFIX}")


def remove_chains(store: Store, is_over: Callable[[str], bool]) -> None:
    """Remove what workers have kept of runs that are over, as `is_over` tells of their ids.

    Raises:
        StorageError: the store refused.
    """
    root = store.at(_FOLDER)
    with storage_errors(root):
        for name in sorted(store.listed(root)):
            if is_over(name.removeprefix(f"{root}/").partition("/")[0]):
                store.remove(name)


class TaskLedger(Ledger):
    """The ledger of a task on a worker. It ends with the process; what it holds is durable once it is in a segment.

    One thread stores at a time: a segment that says of a slice where its walk goes on has every page before that.

    Whatever stores something raises an OvertakenError if another worker has extended the chain. This ledger is then of
    no use any more.
    """

    def __init__(self, database: Database, segments: Segments, task: str, size: Size) -> None:
        super().__init__(database)
        self._segments, self._task, self._size = segments, task, size
        self._cutting = threading.Lock()
        self._number = 0
        self._pages: list[tuple[str, int]] = []
        self._changed: set[str] = set()
        self._bytes, self._since = 0, 0.0

    @classmethod
    def begin(cls, run: RunFacts, segments: Segments, task: str, size: Size) -> Self:
        """Return the ledger of a task of a run, without slices.

        Raises:
            StorageError: there is no room for temporary files.
        """
        ledger = cls(Ledger.temporary(run.run_id, run.snapshot_date, run.shard).database, segments, task, size)
        if run.account_id:
            ledger.set_account(run.account_id)
        return ledger

    @property
    def segments(self) -> int:
        """Return how many segments the chain has."""
        return self._number

    def adopt(self, slice_ids: Iterable[str]) -> None:
        """Take what former workers have walked. The slices must be planned."""
        self._number = self._segments.adopt(self, self._task, slice_ids)

    def store_page(self, slice_: Slice, page: Page) -> None:
        """Store a page; it becomes durable with the next segment."""
        with self._cutting:
            super().store_page(slice_, page)
            if not self._pages:
                self._since = time.monotonic()
            self._pages.append((slice_.slice_id, page.number))
            self._changed.add(slice_.slice_id)
            self._bytes += len(page.body)
            size, age_s = self._size, time.monotonic() - self._since
            if len(self._pages) >= size.pages or self._bytes >= size.size_bytes or age_s >= size.seconds:
                self._cut()

    def fail_slice(self, slice_: Slice, state: SliceState, error: str, *, resumable: bool) -> None:
        """Note why a walk ended early."""
        with self._cutting:
            super().fail_slice(slice_, state, error, resumable=resumable)
            self._changed.add(slice_.slice_id)

    def restart_slice(self, slice_: Slice) -> None:
        """Begin a new attempt at a slice."""
        with self._cutting:
            super().restart_slice(slice_)
            self._pages = [one for one in self._pages if one[0] != slice_.slice_id]
            self._changed.add(slice_.slice_id)

    def finish(self) -> None:
        """Make everything durable."""
        with self._cutting:
            if self._changed:
                self._cut()

    def _cut(self) -> None:
        """Make a segment of what has come since the last one."""
        with sqlite_errors(self.path), closing(sqlite3.connect(":memory:")) as segment:
            segment.executescript(_SEGMENT)
            segment.execute("insert into segment values (?, ?)", (self._segments.run_id, self._task))
            for slice_id in sorted(self._changed):
                _copy(self.database.rows("select * from slice where slice_id = ?", slice_id), "slice", segment)
            for slice_id, number in self._pages:
                found = "select page.* from page join slice using (slice_id, attempt) where slice_id = ? and number = ?"
                _copy(self.database.rows(found, slice_id, number), "page", segment)
            segment.commit()
            content = segment.serialize()
        self._segments.put(self._task, self._number + 1, content)
        self._number += 1
        self._pages, self._changed, self._bytes = [], set(), 0


def _take_over(connection: sqlite3.Connection, place: str, content: bytes, run_id: str, task: str) -> None:
    """Add a segment to the slices of a ledger that are adopted, over what the segments before it say of them."""
    with sqlite_errors(place), closing(sqlite3.connect(":memory:")) as segment:
        segment.row_factory = sqlite3.Row
        segment.deserialize(content)
        if [tuple(row) for row in segment.execute("select * from segment")] != [(run_id, task)]:
            raise LedgerError(f"{place}: this segment is of another run or task; run with --fresh")
        for row in segment.execute("select * from slice"):
            is_adopted = "slice_id = :slice_id and slice_id in (select slice_id from adopted)"
            connection.execute(f"delete from page where {is_adopted} and attempt < :attempt", dict(row))  # noqa: S608  our own
            values = ", ".join(f"{name} = :{name}" for name in _WALKED)
            connection.execute(f"update slice set {values} where {is_adopted}", dict(row))  # noqa: S608  our own
        adopted = {slice_id for (slice_id,) in connection.execute("select slice_id from adopted")}
        _copy((row for row in segment.execute("select * from page") if row["slice_id"] in adopted), "page", connection)


def _copy(rows: Iterable[sqlite3.Row], table: str, connection: sqlite3.Connection) -> None:
    for row in rows:
        names, values = ", ".join(row.keys()), ", ".join("?" * len(row))
        connection.execute(f"insert into {table} ({names}) values ({values})", tuple(row))  # noqa: S608  our own
