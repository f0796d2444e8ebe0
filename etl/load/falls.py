"""A guard against sudden falls: a healthy service that answers with too little is not believed without a word."""

from collections.abc import Iterable, Iterator

from etl.config import Publish
from etl.load.delta.tables import Tables
from etl.load.snapshots import previous_snapshots
from etl.model import RunFacts, SliceFacts


def find_falls(
    tables: Tables, run: RunFacts, ready: Iterable[SliceFacts], limits: Publish
) -> Iterator[tuple[SliceFacts, str]]:
    """Yield the slices that have too few records to be published, each with the reason.

    A slice is compared with its last complete snapshot, this date's included.

    Args:
        tables: the warehouse.
        run: what the slices were walked for.
        ready: complete walks.
        limits: `max_fall` is a share; no records at all, after some, is always a fall.
    """
    ready = list(ready)
    last = previous_snapshots(tables, run.snapshot_date, (facts.part.slice_id for facts in ready))
    for facts in ready:
        date, before = last.get(facts.part.slice_id, (None, 0))
        missing = before - facts.records
        small = missing <= max(limits.fall_tolerance, before * limits.max_fall)
        if missing > 0 and (facts.records == 0 or not small):
            yield (
                facts,
                (
                    f"{facts.part}: {facts.records} records, its snapshot of {date} has {before}: a fall of "
                    f"{missing / before:.0%}, publish.max_fall is {limits.max_fall:.0%}; readers keep that snapshot. "
                    f"If it is right: nimble-etl replay {run.run_id} --allow-fall"
                ),
            )
