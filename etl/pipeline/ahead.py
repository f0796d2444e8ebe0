"""Rows that are staged while their pages arrive, so that publishing need not read the ledger once more.

What is staged is a guess: that every slice of the dataset is walked from its first page to its end in this process, and
that no key is there twice. If it comes true, publishing only has to commit. If not, all of it is thrown away, and rows
come from the ledger, as after a crash. Nothing durable depends on it.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from etl.load.delta.stage import Stage
from etl.load.delta.tables import Replacement, Tables
from etl.model import Page, Slice, SliceFacts, Snapshot
from etl.pipeline.counts import Counts
from etl.transform.batches import BATCH_RECORDS, Flattener
from etl.transform.duplicates import KeyHashes
from etl.transform.schema import Layout

log = logging.getLogger(__name__)

_MOST_REJECTS = 1000
"""Rejects wait in memory, for their table is that of all datasets."""


@dataclass(frozen=True, slots=True)
class StagedRows:
    """The rows of some slices: a stage for each table of the dataset, their rejects, and the counts by slice id."""

    stages: Mapping[str, Stage]
    rejects: Sequence[pa.RecordBatch]
    counts: Mapping[str, Counts]


@dataclass
class _Rows:
    """What has arrived of one slice. Only the thread that walks it adds to it."""

    flattener: Flattener
    hashes: KeyHashes
    pages: int = 0
    waiting: list[Page] = field(default_factory=list)
    records: int = 0
    counts: Counts = field(default_factory=Counts)


class Ahead:
    """Stages the rows of one dataset of one run. Threads may add pages of several slices at once, not of the same."""

    def __init__(self, tables: Tables, layout: Layout, snapshot: Snapshot) -> None:
        self._layout = layout
        self._snapshot = snapshot
        self._lock = threading.Lock()
        self._is_true = True
        self._slices: dict[str, _Rows] = {}
        self._rejects: list[pa.RecordBatch] = []
        replacement = Replacement(snapshot.snapshot_date, "slice_id", ())
        self._stages = {
            table: Stage(tables, table, schema, replacement, snapshot.run_id)
            for table, schema in layout.schemas.items()
        }

    def add(self, slice_: Slice, page: Page) -> None:
        """Take the next page of a slice. Whatever fails here fails again where the slice is published, and is told."""
        if not self._is_true:
            return
        try:
            rows = self._slices.get(slice_.slice_id)
            if rows is None:
                flattener = Flattener(self._layout, self._snapshot, slice_)
                rows = self._slices[slice_.slice_id] = _Rows(flattener, KeyHashes(self._layout, flattener.reader))
            rows.pages += 1
            if page.number != rows.pages:
                self.give_up("the first pages of a slice arrived before")
                return
            rows.waiting.append(page)
            rows.records += page.kept
            if rows.records >= BATCH_RECORDS or page.next_starting_token is None:
                self._stage(rows)
        except Exception as exc:  # noqa: BLE001  see above
            self.give_up(str(exc))

    def _stage(self, rows: _Rows) -> None:
        waiting, rows.waiting = rows.waiting, []
        if not rows.records:
            return
        rows.records = 0
        with self._lock:  # one slice at a time: each needs memory for many records
            if not self._is_true:
                return
            self._write(rows, waiting)
            # Otherwise each of the threads that walk would keep what it has needed.
            pa.default_memory_pool().release_unused()
        if sum(batch.num_rows for batch in self._rejects) > _MOST_REJECTS:
            self.give_up("there are many rejects")

    def _write(self, rows: _Rows, pages: Sequence[Page]) -> None:
        # Pages are read many at a time: between requests, each would find the caches of the processor cold.
        found = [rows.flattener.reader.read_page(page) for page in pages]
        for one in found:
            rows.hashes.add(one)
        flat = rows.flattener.flatten(found)
        rows.counts.add(flat, self._layout.dataset.name)
        for table, batch in flat.tables.items():
            self._stages[table].write(batch)
        if flat.rejects.num_rows:
            self._rejects.append(flat.rejects)

    def take(self, ready: Sequence[SliceFacts]) -> StagedRows | None:
        """Return what is staged if it is what these slices consist of; else throw it away. It is given away once."""
        with self._lock:
            pages = {name: rows.pages for name, rows in self._slices.items()}
            is_true = self._is_true and pages == {facts.slice.slice_id: facts.pages for facts in ready}
            if is_true and not any(rows.waiting or rows.hashes.suspects() for rows in self._slices.values()):
                staged = StagedRows(
                    self._stages, self._rejects, {name: rows.counts for name, rows in self._slices.items()}
                )
                for stage in staged.stages.values():
                    stage.replace(tuple(pages))
                self._stages, self._slices, self._is_true = {}, {}, False
                return staged
        self.give_up("it is not what is published")
        return None

    def give_up(self, reason: str = "") -> None:
        """Throw away what is staged."""
        with self._lock:
            if self._is_true and reason:
                log.debug("rows of dataset %s are not staged ahead: %s", self._layout.dataset.name, reason)
            self._is_true = False
            for stage in self._stages.values():
                stage.discard()
            self._stages, self._slices, self._rejects = {}, {}, []
