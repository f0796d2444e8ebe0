"""A run whose slices are walked by many workers, and put together by this process, the driver.

    plan -> tasks -> workers walk and stage -> their ledgers are taken over -> slices that come from them -> ... -> rows

The ledger of the run has every page in the end, as if this process had walked all slices itself. What workers have
staged need only be committed. If it is not exactly what is published, rows come from the ledger.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import Protocol

from etl.errors import ConfigError, LedgerError, StorageError
from etl.events import Walked, tell
from etl.ledger.ledger import Ledger
from etl.ledger.segments import Segments, remove_chains
from etl.load.delta.parquet import Written, read_batches
from etl.load.delta.stage import Stage
from etl.load.delta.tables import Replacement, Tables
from etl.model import Slice, SliceFacts, SliceState, Snapshot
from etl.pipeline.ahead import StagedChanges, StagedRows
from etl.pipeline.task import Done, Rows, Task
from etl.pipeline.walks import Walks
from etl.transform.schema import REJECTS, Layout

log = logging.getLogger(__name__)

_SMALL_BYTES = 4 * 1024 * 1024
_MOST_SMALL = 8
"""Small files of a table that a night may bring."""


class Executor(Protocol):
    """Has tasks done by workers. A worker that dies costs its task another attempt."""

    def map(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """Yield what became of each task, in any order.

        Raises:
            EtlError: a task failed each time, or the engine does not work.
        """

    def close(self) -> None:
        """End what the engine has begun for this job."""


class Delivered:
    """What workers have staged of one dataset of one run."""

    def __init__(self, tables: Tables, layout: Layout, snapshot: Snapshot) -> None:
        self._tables, self._layout, self._snapshot = tables, layout, snapshot
        self._rows: list[Rows] = []

    def add(self, rows: Rows) -> None:
        """Take what a task has staged."""
        self._rows.append(rows)

    def take(self, ready: Sequence[SliceFacts]) -> StagedRows | None:
        """Return what is staged if it is what these slices consist of; else remove it. It is given away once.

        Raises:
            WarehouseError: a small file cannot be read.
            StorageError: the store refused.
        """
        several = sorted((rows for rows in self._rows if rows.pages_sha256), key=lambda rows: min(rows.pages_sha256))
        digests = {name: digest for rows in several for name, digest in rows.pages_sha256.items()}
        if digests != {facts.slice.slice_id: facts.pages_sha256 for facts in ready}:
            self.give_up()
            return None
        self._rows = []
        layout, stages = self._layout, {}
        replacement = Replacement(self._snapshot.snapshot_date, "slice_id", tuple(digests))
        for table, schema in {"etl_rejects": REJECTS, **layout.schemas, layout.changes_table: layout.changes}.items():
            # Not the prefix of workers: a stage removes what a killed try with its own has left.
            stages[table] = Stage(self._tables, table, schema, replacement, f"{self._snapshot.run_id}.merged")
            self._fill(stages[table], [file for rows in several for file in rows.files.get(table, ())])
        counts = {name: count for rows in several for name, count in rows.counts.items()}
        changes, versions = stages.pop(layout.changes_table), [rows.versions for rows in several]
        if any(one != versions[0] for one in versions):
            changes.discard()
            return StagedRows(stages, (), counts)
        return StagedRows(stages, (), counts, StagedChanges(changes, versions[0]))

    def _fill(self, stage: Stage, files: Sequence[Written]) -> None:
        """Put files into a stage. Many small ones become one, for every reader opens every file of a night."""
        small = [file for file in files if file.size < _SMALL_BYTES]
        merged = small if len(small) > _MOST_SMALL else []
        stage.adopt(file for file in files if file not in merged)
        store = self._tables.store
        for file in merged:
            for rows in read_batches(store, file.name, None, encoded=True):
                stage.write(rows)
        if merged:
            stage.finish()
            store.discard(file.name for file in merged)

    def give_up(self) -> None:
        """Remove what is staged and was not taken."""
        several, self._rows = self._rows, []
        self._tables.store.discard(file.name for rows in several for group in rows.files.values() for file in group)


@dataclass(frozen=True)
class Spread:
    """The walks of one invocation, done by the workers of an executor, in at most `tasks` tasks a generation.

    The slices of a generation come from those of the generation before it. `weights` has the pages of slices, by id,
    as far as they are known: of the last time. `ahead` takes what workers stage, by dataset.
    """

    walks: Walks
    executor: Executor
    segments: Segments
    tasks: int
    weights: Mapping[str, int]
    ahead: Mapping[str, Delivered] = field(default_factory=dict)

    def walk(self, ledger: Ledger) -> None:
        """Walk every slice that is not at its end, as `Walks.walk` does, and take what is staged.

        Raises:
            EtlError: a task failed; what others have walked is kept.
        """
        try:
            self._walk(ledger)
        finally:
            self.executor.close()

    def _walk(self, ledger: Ledger) -> None:
        todo = {slice_.slice_id: slice_ for slice_ in self.walks.begin(ledger, ledger.slices())}
        generation = 0
        while not self.walks.stop.is_set():
            generation += 1
            planned = self.segments.planned(generation)
            if planned is None:
                if not todo:
                    return
                cuts = cut(todo.values(), self.tasks, self.weights)
                planned = self.segments.plan(generation, [[one.slice_id for one in part] for part in cuts])
            tasks = list(self._wanted(ledger, planned))
            log.info("generation %d: %d of %d tasks", generation, len(tasks), len(planned))
            left = {task.name: task for task in tasks}
            try:
                for done in self.executor.map(tasks):
                    seen = self._adopt(ledger, left.pop(done.task.name))
                    if seen < done.segments:
                        raise ConfigError(
                            f"a worker on {done.node} has written {done.segments} files to "
                            f"{self.segments.store.uri}, and this machine sees {seen} of them there; "
                            "warehouse.path, or engine.segments_at, must be a place that all workers share"
                        )
                    tell(Walked(done.task.slices))
                    log.info(
                        "task %d of %d has ended: %d slices", len(tasks) - len(left), len(tasks), len(done.task.slices)
                    )
                    for name, rows in done.rows.items():
                        self.ahead[name].add(rows)
                    if done.failure:
                        raise done.failure
                    for slice_ in done.task.slices:
                        todo.pop(slice_.slice_id, None)
                        todo |= {came.slice_id: came for came in self.walks.after(ledger, slice_)}
            finally:
                for task in left.values():  # what their workers have walked so far
                    self._adopt(ledger, task)

    def forget(self) -> None:
        """Remove the chains of the run, which is over. What cannot be removed is left to `vacuum`."""
        try:
            remove_chains(self.segments.store, self.segments.run_id.__eq__)
        except StorageError as exc:
            log.warning("%s; `nimble-etl vacuum` removes what workers have kept", exc)

    def _adopt(self, ledger: Ledger, task: Task) -> int:
        return self.segments.adopt(ledger, task.name, [slice_.slice_id for slice_ in task.slices])

    def _wanted(self, ledger: Ledger, planned: Iterable[Sequence[str]]) -> Iterator[Task]:
        """Yield the tasks in which something is left to be walked, or to be staged."""
        plan = self.walks.plan
        known = {facts.slice.slice_id: facts for facts in ledger.slices()}
        for slice_ids in planned:
            if not known.keys() >= set(slice_ids):
                raise LedgerError(f"{ledger.path}: slices are missing that this run has planned; run with --fresh")
            several = [known[slice_id] for slice_id in slice_ids]
            if any(
                facts.state is SliceState.WALKING or (facts.whole and not facts.publication and facts.is_wanted)
                for facts in several
            ):
                slices = tuple(facts.slice for facts in several)
                batched = [one for one in slices if (each := plan.dataset(one.dataset).for_each) and each.batch]
                yield Task(slices, {one.slice_id: tuple(plan.batched(ledger, one)) for one in batched})


def cut(slices: Iterable[Slice], parts: int, weight_of: Mapping[str, int]) -> list[list[Slice]]:
    """Return slices, sorted by id, in ranges of about equal weight: at most so many `parts`, none of them empty."""
    ordered = sorted(slices, key=lambda slice_: slice_.slice_id)
    weights = [max(1, weight_of.get(slice_.slice_id, 1)) for slice_ in ordered]
    total = sum(weights)
    # A slice belongs to the range in which its middle lies.
    middles = (end - weight / 2 for end, weight in zip(accumulate(weights), weights, strict=True))
    numbers = (int(middle * parts / total) for middle in middles)
    ranges = groupby(zip(numbers, ordered, strict=True), key=lambda pair: pair[0])
    return [[slice_ for _, slice_ in pairs] for _, pairs in ranges]
