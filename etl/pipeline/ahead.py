"""Rows that are staged while their pages arrive, so that publishing need not read the ledger once more.

What is staged is a guess: that every slice of the dataset is walked to its end in this process, and that no key is
there twice. If it comes true, publishing only has to commit. If not, all of it is thrown away, and rows come from the
ledger. Nothing durable depends on it.
"""

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import pyarrow as pa

from etl.extract.source import SLOW_S
from etl.load.delta.stage import Stage, make_room
from etl.load.delta.tables import Replacement, Tables
from etl.model import Page, Slice, SliceFacts, Snapshot
from etl.pipeline.counts import Counts, count
from etl.transform.batches import BATCH_RECORDS, Flattener
from etl.transform.duplicates import KeyHashes
from etl.transform.schema import Layout

log = logging.getLogger(__name__)

_MOST_REJECTS = 1000
"""Rejects wait in memory, for their table is that of all datasets."""
_FEW_RECORDS = BATCH_RECORDS // 4
"""A batch where pages come more slowly than `SLOW_S`: it is staged in less time than the next answer takes."""


@dataclass(frozen=True, slots=True)
class StagedChanges:
    """What the change log says of some slices, compared with tables that had these versions; -1: there was no table."""

    stage: Stage
    versions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StagedRows:
    """The rows of some slices: a stage for each table of the dataset, their rejects, and the counts by slice id.

    `changes` are those of the same slices; None if they are still to be found.
    """

    stages: Mapping[str, Stage]
    rejects: Sequence[pa.RecordBatch]
    counts: Mapping[str, Counts]
    changes: StagedChanges | None = None


@dataclass(slots=True)
class _Rows:
    """What has arrived of one slice. `awaited` of its pages are in the ledger and have not been read from there yet.

    `hashes` are those of the keys so far. They are dropped when all pages are there and no key is there twice.
    """

    slice_: Slice
    pages: int = 0
    awaited: int = 0
    written: int = 0
    has_last: bool = False
    hashes: KeyHashes | None = None
    counts: Counts = field(default_factory=Counts)


class Given(Protocol):
    """Has rows that were staged before their publication: an `Ahead`, or what workers have staged."""

    def take(self, ready: Sequence[SliceFacts]) -> StagedRows | None:
        """Return what is staged if it is what these slices consist of; else throw it away. It is given away once."""

    def give_up(self) -> None:
        """Throw away what is staged."""


class Ahead:
    """Stages the rows of one dataset of one run. Threads may add pages of several slices at once, not of the same.

    The names of its files begin with `prefix`; without one, with the id of the run.
    """

    def __init__(self, tables: Tables, layout: Layout, snapshot: Snapshot, prefix: str = "") -> None:
        self._layout = layout
        self._snapshot = snapshot
        self._arriving, self._staging = threading.Lock(), threading.Lock()
        self._is_true = True
        self._slices: dict[str, _Rows] = {}
        self._waiting: list[tuple[_Rows, Page]] = []
        self._records = 0
        self._since = 0.0
        self._rejects: list[pa.RecordBatch] = []
        replacement = Replacement(snapshot.snapshot_date, "slice_id", ())
        self._stages = {
            table: Stage(tables, table, schema, replacement, prefix or snapshot.run_id)
            for table, schema in layout.schemas.items()
        }

    def expect_stored(self, facts: SliceFacts) -> None:
        """Know that the first pages of a slice are in the ledger, before `add` has others. `add_stored` brings them."""
        self._slices[facts.slice.slice_id] = _Rows(facts.slice, facts.pages, awaited=facts.pages)

    def add_stored(self, slice_: Slice, pages: Iterable[Page]) -> None:
        """Take the pages that `expect_stored` has announced. They may come while `add` takes others."""
        if not self._is_true:  # no page need be read
            return
        try:
            for page in pages:
                with self._arriving:
                    if not self._is_true:
                        return
                    rows = self._slices[slice_.slice_id]
                    rows.awaited -= 1
                    several = self._arrived(rows, page)
                self._stage(several)
        except Exception as exc:  # noqa: BLE001  whoever publishes reads the ledger once more, and tells it
            self.give_up(str(exc))

    def add(self, slice_: Slice, page: Page) -> None:
        """Take the next page of a slice."""
        with self._arriving:
            if not self._is_true:
                return
            rows = self._slices.setdefault(slice_.slice_id, _Rows(slice_))
            rows.pages += 1
            is_next = page.number == rows.pages
            several = self._arrived(rows, page)
        if is_next:
            self._stage(several)
        else:
            self.give_up("the slice is walked again, or its first pages were walked before")

    def _arrived(self, rows: _Rows, page: Page) -> Sequence[tuple[_Rows, Page]]:
        """Add a page to those that wait. Return what makes a batch by now."""
        now = time.monotonic()
        if not self._waiting:
            self._since = now
        self._waiting.append((rows, page))
        self._records += page.kept
        is_slow = now - self._since > SLOW_S * len(self._waiting)
        return self._take_waiting() if self._records >= (_FEW_RECORDS if is_slow else BATCH_RECORDS) else ()

    @cached_property
    def _flattener(self) -> Flattener:
        return Flattener(self._layout, self._snapshot)

    def _take_waiting(self) -> Sequence[tuple[_Rows, Page]]:
        waiting, self._waiting, self._records = self._waiting, [], 0
        return waiting

    def _stage(self, pages: Sequence[tuple[_Rows, Page]]) -> None:
        """Stage the rows of some pages. Whatever fails here fails again where they are published, and is told there."""
        if not pages:
            return
        try:
            with self._staging:  # one batch at a time: each needs memory for many records
                if self._is_true:
                    self._write(pages)
                    # Otherwise each of the threads that walk would keep what it has needed.
                    pa.default_memory_pool().release_unused()
        except Exception as exc:  # noqa: BLE001  see above
            self.give_up(str(exc))
        if sum(batch.num_rows for batch in self._rejects) > _MOST_REJECTS:
            self.give_up("there are many rejects")

    def _write(self, pages: Sequence[tuple[_Rows, Page]]) -> None:
        # Pages are read many at a time: between requests, each would find the caches of the processor cold. Small
        # slices share a batch, so that they cost what large ones do.
        found = [(rows.slice_, self._flattener.reader.read_page(page)) for rows, page in pages]
        for (rows, page), (_, one) in zip(pages, found, strict=True):
            rows.hashes = rows.hashes or KeyHashes(self._layout, self._flattener.reader)
            rows.hashes.add(one)
            rows.written += 1
            rows.has_last = rows.has_last or page.next_starting_token is None
            if rows.has_last and rows.written == rows.pages and not rows.hashes.suspects():
                rows.hashes = None
        flat = self._flattener.flatten(found)
        count(flat, self._layout.dataset.name, lambda slice_id: self._slices[slice_id].counts)
        for table, batch in flat.tables.items():
            self._stages[table].write(batch)
        make_room(self._stages.values())
        if flat.rejects.num_rows:
            self._rejects.append(flat.rejects)

    def take(self, ready: Sequence[SliceFacts]) -> StagedRows | None:
        """Return what is staged if it is what these slices consist of; else throw it away. It is given away once."""
        self._stage(self._take_waiting())
        with self._staging:
            counts = {name: rows.counts for name, rows in self._slices.items()}
            arrived = {name: rows.pages for name, rows in self._slices.items()}
            is_true = self._is_true and not any(rows.awaited for rows in self._slices.values())
            is_true = is_true and arrived == {facts.slice.slice_id: facts.pages for facts in ready}
            if is_true and not any(rows.hashes and rows.hashes.suspects() for rows in self._slices.values()):
                staged = StagedRows(self._stages, self._rejects, counts)
                for stage in staged.stages.values():
                    stage.replace(tuple(arrived))
                self._stages, self._slices, self._is_true = {}, {}, False  # the hashes are of no use any more
                return staged
        self.give_up("it is not what is published")
        return None

    def give_up(self, reason: str = "") -> None:
        """Throw away what is staged."""
        with self._staging, self._arriving:
            if self._is_true and reason:
                log.debug("rows of dataset %s are not staged ahead: %s", self._layout.dataset.name, reason)
            self._is_true = False
            for stage in self._stages.values():
                stage.discard()
            self._stages, self._slices, self._waiting, self._rejects = {}, {}, [], []
