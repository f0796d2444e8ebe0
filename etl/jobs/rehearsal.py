"""A rehearsal of a night: which slices it would walk. Nothing is written, and no lock is taken.

Only the listings that tell of slices are walked, such as ListStudios: into a ledger that is thrown away.
"""

import datetime as dt
from dataclasses import dataclass, replace

from etl.config import Settings
from etl.jobs.origin import source_of
from etl.jobs.warehouse import pages_of_last_night
from etl.jobs.workplace import plan_of
from etl.ledger.directory import new_run_id
from etl.ledger.ledger import Ledger
from etl.model import Shard, SliceFacts
from etl.pipeline.walks import Stop, Walks


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A slice that a night would walk.

    Attributes:
        facts: the slice. If its walk tells of further slices, it was walked now: the facts say how that went.
        operation: of the service, such as ListStreamingSessions.
        pages: how many it had last time; None if it is new.
    """

    facts: SliceFacts
    operation: str
    pages: int | None


def rehearse(settings: Settings, date: dt.date, shard: Shard, stop: Stop) -> list[Rehearsed]:
    """Return the slices that a run would walk, in the order of the datasets.

    Raises:
        EtlError: as a run, before its first page.
    """
    with (
        source_of(settings.source, settings.emulator, date, stop) as source,
        Ledger.temporary(new_run_id(), date) as ledger,
    ):
        plan = plan_of(settings, source.operation, source.endpoint_of, shard)
        telling = {dataset.for_each.dataset for dataset in plan.datasets.values() if dataset.for_each}
        rehearsed = replace(plan, published=plan.published - telling)
        Walks(rehearsed, source, settings.run, stop, None, plans_only=True).walk(ledger)
        known = pages_of_last_night(settings)
        return [
            Rehearsed(facts, plan.operations[facts.slice.dataset].name, known.get(facts.slice.slice_id))
            for facts in ledger.slices()
        ]
