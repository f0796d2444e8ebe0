"""A reading: a data engine such as Spark reads a dataset from its source, one part after the other. Nothing is written.

    settings -> reading -> parts, one for each slice -> Arrow batches

Only the driver of the engine sees the settings. A reading is the part of them that its workers need, as a value that
can be pickled. Workers walk and flatten as a night does; their ledgers are temporary.
"""

import datetime as dt
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache

import pyarrow as pa

from etl.config import Emulator, Run, Settings, SourceSettings
from etl.errors import RecordError, SourceError, shortened
from etl.extract.service_model import describe_operation, model_session
from etl.extract.source import Source
from etl.jobs.origin import source_of
from etl.jobs.workplace import plan_of
from etl.ledger.directory import new_run_id
from etl.ledger.ledger import Ledger
from etl.model import Dataset, Operation, Slice, SliceState, Snapshot
from etl.pipeline.counts import Counts
from etl.pipeline.plan import Plan
from etl.pipeline.task import Task, TaskPlan
from etl.pipeline.walks import Stop, Walks
from etl.pipeline.write import flatten_slice

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """A slice to read. `batched` are the values that its requests ask for in batches."""

    slice: Slice
    batched: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """One reading of a dataset; its `run_id` tells it from all others.

    Attributes:
        snapshot_date: the UTC date on which it began.
        dataset: the name of what is read.
        datasets: its definition and those of its parents, parents first.
        source: where the pages come from.
        emulator: the world of the embedded studio.
        limits: how many parents are walked at a time, and how many pages a slice may have.
        key: the key of the hashes; None if no rule asks for them.
        leaves_out_misfits: records that do not fit are left out; otherwise they end the reading.
    """

    run_id: str
    snapshot_date: dt.date = field(compare=False)
    dataset: str = field(compare=False)
    datasets: Mapping[str, Dataset] = field(compare=False)
    source: SourceSettings = field(compare=False)
    emulator: Emulator = field(compare=False)
    limits: Run = field(compare=False)
    key: bytes | None = field(compare=False, repr=False)
    leaves_out_misfits: bool = field(compare=False)

    @classmethod
    def of(cls, settings: Settings, *, leaves_out_misfits: bool = False) -> "Reading":
        """Return a new reading of the one dataset that the settings are limited to. Nothing is requested.

        Raises:
            ConfigError: the dataset is unknown, or cannot be exported.
        """
        session = model_session()
        plan = plan_of(settings, lambda dataset: describe_operation(session, dataset))
        (name,) = plan.published
        hashes = any("hash" in dataset.privacy.values() for dataset in plan.datasets.values())
        return cls(
            new_run_id(),
            dt.datetime.now(dt.UTC).date(),
            name,
            plan.datasets,
            settings.source,
            settings.emulator,
            settings.run.model_copy(update={"max_items": None}),  # a reading is whole, or fails
            settings.privacy.secret if hashes else None,
            leaves_out_misfits,
        )

    @property
    def schema(self) -> pa.Schema:
        """Return the schema of the rows: that of the dataset's table in a warehouse."""
        session = model_session()
        return self.plan(lambda dataset: describe_operation(session, dataset)).layouts[self.dataset].schema

    def parts(self) -> list[Part]:
        """Return what is to be read: the parents are walked for this, and nothing else.

        Raises:
            ConfigError: the credentials cannot be had, or are of another account.
            SourceError: a parent could not be walked to its end.
        """
        with ExitStack() as opened:
            source = opened.enter_context(source_of(self.source, self.emulator, self.snapshot_date, Stop()))
            ledger = opened.enter_context(Ledger.temporary(self.run_id, self.snapshot_date))
            plan = self.plan(source.operation)
            Walks(plan, source, self.limits, Stop(), None, plans_only=True).walk(ledger)
            found = ledger.slices()
            failed = [facts.error for facts in found if facts.error and facts.state is not SliceState.SKIPPED]
            if failed:
                raise SourceError("\n".join(shortened(failed)))
            slices = [facts.slice for facts in found if facts.slice.dataset == self.dataset]
            for_each = self.datasets[self.dataset].for_each
            is_batched = bool(for_each and for_each.batch)
            return [Part(slice_, tuple(plan.batched(ledger, slice_)) if is_batched else ()) for slice_ in slices]

    def read(self, part: Part) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a part, once it is walked to its end: a few thousand at a time, in the order of the walk.

        Raises:
            ConfigError: the credentials cannot be had.
            SourceError: the slice could not be walked to its end.
            RecordError: a record does not fit, or shares its key with one that says something else.
        """
        source, plan, _in_use = _opened(self)
        layout = plan.layouts[self.dataset]
        snapshot = Snapshot(self.run_id, self.snapshot_date, layout.dataset, layout.operation)
        with Ledger.temporary(self.run_id, self.snapshot_date) as ledger:
            ledger.set_account(part.slice.account_id)  # nobody need ask
            task = Task((part.slice,), {part.slice.slice_id: part.batched})
            limits = self.limits.model_copy(update={"concurrency": 1})
            Walks(TaskPlan.of(plan, task), source, limits, Stop(), None).walk(ledger)
            (facts,) = ledger.slices()
            if facts.state is SliceState.SKIPPED:
                return
            if facts.error:
                raise SourceError(facts.error)
            for flat in flatten_slice(ledger, layout, snapshot, facts, Counts()):
                if flat.rejects:
                    self._leave_out(part.slice, flat.rejects)
                yield flat.tables[self.dataset]

    def _leave_out(self, slice_: Slice, rejects: pa.RecordBatch) -> None:
        """Leave out records that do not fit, if the reading does so."""
        one = rejects.slice(0, 1).to_pylist()[0]
        example = f"{slice_}, page {one['page_number']}, record {one['record_number']}: {one['reason']}"
        if not self.leaves_out_misfits:
            raise RecordError(
                f"{example}. A reading ends there, unless it leaves out what does not fit: in Spark, mode DROPMALFORMED"
            )
        log.warning("%d records do not fit and are left out, such as %s", rejects.num_rows, example)

    def plan(self, describe: Callable[[Dataset], Operation]) -> Plan:
        """Return the plan of this reading, as `Plan.make` says."""
        return Plan.make(self.datasets, [self.dataset], describe, self.source, self.key)


@lru_cache(maxsize=1)
def _opened(reading: Reading) -> tuple[Source, Plan, ExitStack]:
    """Return the source and the plan of a reading: a worker reads many parts, and each account needs credentials.

    The embedded studio, if it is the source, ends once nobody uses what stands last.
    """
    opened = ExitStack()
    source = opened.enter_context(source_of(reading.source, reading.emulator, reading.snapshot_date, Stop()))
    return source, reading.plan(source.operation), opened
