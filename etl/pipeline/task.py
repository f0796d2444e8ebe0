"""A task: some slices of a run, from their requests to staged rows. It knows no engine and no other task.

    chain of the task -> walk what is left -> segments -> rows -> data files that nobody reads yet

Whoever has the tasks of a run done commits what they have staged. A task may be done twice, even at the same time: both
extend one chain of segments, and only the files of the one that was heard count.
"""

import logging
import platform
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, fields
from typing import Self

from etl.config import Run as Limits
from etl.errors import EtlError, WarehouseError
from etl.extract.source import Source
from etl.ledger.ledger import Ledger
from etl.ledger.segments import OvertakenError, Segments, Size, TaskLedger
from etl.load.delta.parquet import Written
from etl.load.delta.tables import Replacement, Tables
from etl.model import RunFacts, Slice, Snapshot, digest
from etl.pipeline.ahead import Ahead
from etl.pipeline.counts import Counts
from etl.pipeline.plan import Plan
from etl.pipeline.walks import Stop, Walks
from etl.pipeline.write import Walked, Writer, stage_changes, staged
from etl.transform.schema import Layout

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """Slices to walk and stage. `values` has, by slice id, what slices with a batch ask for; see `Plan.batched`."""

    slices: tuple[Slice, ...]
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the name of its chain of segments."""
        return digest([slice_.slice_id for slice_ in self.slices])[:16]


@dataclass(frozen=True, slots=True)
class Work:
    """What all tasks of a run share. `limits` are those of each task, and `size` is that of its segments.

    The driver has this `version` of nimble-etl.
    """

    version: str
    run: RunFacts
    plan: Plan
    limits: Limits
    size: Size


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of whole slices of a dataset: files by table; counts, and the digest of the pages, by slice id.

    Files of the change log were compared with tables of these `versions`.
    """

    files: Mapping[str, Sequence[Written]] = field(default_factory=dict)
    counts: Mapping[str, Counts] = field(default_factory=dict)
    pages_sha256: Mapping[str, str | None] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """A task as it was left: its rows by dataset. `failure` is why it could not be done; its chain is kept.

    The chain had so many `segments`, as a worker on the machine `node` saw it.
    """

    task: Task
    rows: Mapping[str, Rows] = field(default_factory=dict)
    segments: int = 0
    node: str = ""
    failure: EtlError | None = None


@dataclass(frozen=True)
class TaskPlan(Plan):
    """The plan of a task: its slices, and none that come from them."""

    task: Task = field(kw_only=True)

    @classmethod
    def of(cls, plan: Plan, task: Task) -> Self:
        """Return the part of a plan that a task is."""
        return cls(**{one.name: getattr(plan, one.name) for one in fields(Plan)}, task=task)

    def first(self, _account_id: str) -> Iterator[Slice]:
        """Yield the slices of the task."""
        yield from self.task.slices

    def following(self, _ledger: Ledger, _slice: Slice) -> Iterator[Slice]:
        """Yield nothing: the driver plans what comes from a slice."""
        yield from ()

    def batched(self, _ledger: Ledger, slice_: Slice) -> list[str]:
        """Return the values that the driver has found in the pages of the parent."""
        return list(self.task.values[slice_.slice_id])


class _Attempt(Stop):
    """The order to stop one attempt: `Walks` gives it when a walk fails. The worker goes on with others."""

    def __init__(self, worker: Stop) -> None:
        super().__init__()
        self._worker = worker

    def is_set(self) -> bool:
        """Tell whether the attempt has failed, or its worker is to stop."""
        return super().is_set() or self._worker.is_set()


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker has. If `stop` is set, its walks end at their next page boundary."""

    work: Work
    source: Source
    tables: Tables
    segments: Segments
    stop: Stop

    def do(self, task: Task) -> Done:
        """Do a task, or what a former worker has left of it.

        Raises:
            EtlError: the task cannot be done now. What was walked is in its chain, but for the newest pages.
        """
        work = self.work
        while True:  # whoever was overtaken has more to adopt than before, so this comes to an end
            with suppress(OvertakenError), TaskLedger.begin(work.run, self.segments, task.name, work.size) as ledger:
                return self._do(task, ledger)

    def _do(self, task: Task, ledger: TaskLedger) -> Done:
        run, plan = self.work.run, TaskPlan.of(self.work.plan, task)
        # A prefix of its own: whoever stages removes what a killed try with the same prefix, followed by -, has left.
        writer = Writer(f"{run.run_id}.{uuid.uuid4().hex[:8]}")
        named = {slice_.dataset for slice_ in task.slices}
        for name in sorted(named):
            ledger.add_dataset(plan.dataset(name), plan.operations[name], published=name in plan.published)
        ledger.add_slices((slice_, None) for slice_ in task.slices)
        ledger.adopt(slice_.slice_id for slice_ in task.slices)
        with ExitStack() as unused:
            ahead = {}
            for name in sorted(named & plan.published):
                snapshot = Snapshot(run.run_id, run.snapshot_date, plan.datasets[name], plan.operations[name])
                ahead[name] = Ahead(self.tables, plan.layouts[name], snapshot, writer.prefix)
                unused.callback(ahead[name].give_up)
            Walks(plan, self.source, self.work.limits, _Attempt(self.stop), None, ahead).walk(ledger)
            ledger.finish()
            rows = {name: self._stage(ledger, plan.layouts[name], writer, given) for name, given in ahead.items()}
        return Done(task, rows, ledger.segments, platform.node())

    def _stage(self, ledger: Ledger, layout: Layout, writer: Writer, ahead: Ahead) -> Rows:
        """Stage the rows of whole slices of a dataset. What cannot be staged here fails again where it is published."""
        ready = [facts for facts in ledger.slices(layout.dataset.name) if facts.whole and facts.is_wanted]
        date = self.work.run.snapshot_date
        changes = writer.stage(self.tables, layout.changes_table, layout.changes, Replacement(date, "slice_id", ()))
        try:
            with (
                staged(self.tables, layout, [Walked(ledger, ready)], writer, ahead.take(ready)) as (stages, counts),
                ExitStack() as unused,
            ):
                unused.callback(changes.discard)
                names = {table: [file.name for file in stage.finish()] for table, stage in stages.items()}
                versions = stage_changes(self.tables, layout, date, ready, names, changes)
                files = {
                    table: stage.give_away() for table, stage in [*stages.items(), (layout.changes_table, changes)]
                }
        except WarehouseError as exc:
            log.warning("dataset %s is not staged here: %s", layout.dataset.name, exc)
            return Rows()
        return Rows(files, counts, {facts.slice.slice_id: facts.pages_sha256 for facts in ready}, versions)
