"""From a ledger to the warehouse: choose what may be published, write it, and mark it as *published*.

Nothing here asks the source for anything. Everything here is called inside `all_or_nothing`: a publication that is
killed is put back, and is made again from the ledger.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from etl.config import Publish as Limits
from etl.errors import CommitConflictError, CommitUnknownError, EtlError, WarehouseError, shortened, unforeseen
from etl.events import reach
from etl.ledger.ledger import Ledger, Publication
from etl.load.delta.atomic import Change, undone_if_it_fails
from etl.load.delta.tables import Replacement, Tables
from etl.load.snapshots import find_falls
from etl.model import SliceFacts, SliceState
from etl.outcome import Outcome
from etl.pipeline.ahead import Given
from etl.pipeline.counts import Counts
from etl.pipeline.write import Walked, Writer, log_changes, write_slices
from etl.transform.facts import RUN_TABLES, batch, page_row, run_row, slice_row
from etl.transform.schema import Layout
from etl.version import VERSION

log = logging.getLogger(__name__)

UNPUBLISHABLE = (WarehouseError, CommitConflictError, CommitUnknownError)
"""Errors after which slices can still be published later: their pages are safe in the ledger."""
_FACT_ROWS = 4096
"""Facts that are in memory at once as Python has them: a night has one about every page."""
_PARTIAL = (
    "its walk began at a starting token and has not seen everything, so it is not published; "
    "run again with --publish-partial too"
)


def publish(  # noqa: PLR0913  what, where, and what may be published
    ledger: Ledger,
    tables: Tables,
    layout: Layout,
    change: Change,
    *,
    limits: Limits | None = None,
    partial: bool = False,
    ahead: Given | None = None,
) -> EtlError | None:
    """Publish the slices of a dataset that are complete and not published yet; return why if they cannot be.

    Slices that lost more records than `limits` allow are held back. With `partial`, incomplete walks are published too
    and marked as partial; they never replace a complete snapshot of the same date. `change` is what the caller is
    inside of. `ahead` may have staged the rows while their pages arrived.

    Raises:
        StorageError: the disk refused.
    """
    slices = [facts for facts in ledger.slices(layout.dataset.name) if facts.is_wanted]
    ready = [facts for facts in slices if facts.whole and (facts.publication is None or facts.partial)]
    parts = [facts for facts in slices if facts.pages and not facts.whole]
    if partial:
        try:
            ready += _replace_nothing_whole(ledger, tables, parts)
        except WarehouseError as exc:
            return _not_published(ledger, layout, parts, exc)
    for facts in parts if not partial else ():
        if facts.state is SliceState.COMPLETE and facts.publication is None:
            _hold_back(ledger, facts, f"{facts.slice}: {_PARTIAL}")
    return publish_ready(ledger, tables, layout, change, ready, limits=limits, ahead=ahead)


def publish_ready(  # noqa: PLR0913  what, where, and what may be published
    ledger: Ledger,
    tables: Tables,
    layout: Layout,
    change: Change,
    ready: Sequence[SliceFacts],
    *,
    limits: Limits | None = None,
    ahead: Given | None = None,
) -> EtlError | None:
    """Publish these slices of a dataset, except those that `limits` hold back. Return why if they cannot be published.

    Raises:
        StorageError: the disk refused.
    """
    if not ready:
        return None
    run = ledger.run()
    given, planned = ahead.take(ready) if ahead else None, []
    changes = given.changes if given else None

    def plan(counts: Mapping[str, Counts]) -> None:
        if limits:
            rows = [(facts, counts[facts.slice.slice_id].rows) for facts in ready if facts.whole]
            if fallen := list(find_falls(tables, run, rows, limits)):
                raise _FallenError(fallen)
        planned.append(ledger.plan_publication(layout.dataset.name, [facts.slice.slice_id for facts in ready]))
        change.intend(run.run_id, {facts.slice.slice_id: facts.pages_sha256 for facts in ready})
        reach("publication.planned")

    try:
        with undone_if_it_fails(tables):
            walked, writer = [Walked(ledger, ready)], Writer(run.run_id)
            counts = write_slices(tables, layout, walked, writer, plan, given)
            are_right = changes and change.began_at(changes.versions)
            log_changes(tables, layout, walked, writer, changes=changes.stage if changes and are_right else None)
    except _FallenError as exc:
        for facts, reason in exc.fallen:
            _hold_back(ledger, facts, reason)
        held_back = {facts.slice.slice_id for facts, _ in exc.fallen}
        rest = [facts for facts in ready if facts.slice.slice_id not in held_back]
        return publish_ready(ledger, tables, layout, change, rest, limits=limits)
    except Exception as exc:
        if isinstance(exc, EtlError) and not isinstance(exc, UNPUBLISHABLE):
            raise
        return _not_published(ledger, layout, ready, exc)
    finally:
        if changes:
            changes.stage.discard()  # if they were not committed
    mark(ledger, planned[0], change.sequence, ready, counts)
    return None


class _FallenError(Exception):
    """Some slices lost too many rows: nothing was committed yet."""

    def __init__(self, fallen: Sequence[tuple[SliceFacts, str]]) -> None:
        super().__init__()
        self.fallen = fallen


def _hold_back(ledger: Ledger, facts: SliceFacts, reason: str) -> None:
    log.error("%s", reason)
    ledger.hold_back(facts.slice, reason)


def _not_published(ledger: Ledger, layout: Layout, ready: Sequence[SliceFacts], exc: Exception) -> EtlError:
    """Note why slices of a dataset are not published, and return the reason. The next run tries again."""
    place = f"dataset {layout.dataset.name}"
    error = exc if isinstance(exc, EtlError) else unforeseen(place, exc)
    log.error("%s cannot be published: %s", place, error)
    for facts in ready:
        ledger.hold_back(facts.slice, str(error))
    return error


def publish_facts(tables: Tables, outcomes: Sequence[tuple[Ledger, Outcome]], *, rebuild: bool = False) -> None:
    """Write the facts about runs of one date to etl_pages, etl_slices and etl_runs.

    With `rebuild`, these must be all runs of that date: files that cannot be read are replaced.
    """
    (date,) = {outcome.run.snapshot_date for _, outcome in outcomes}
    replacement = Replacement(date, "run_id", tuple(outcome.run.run_id for _, outcome in outcomes))
    writer = Writer(replacement.values[-1], rebuild=rebuild)
    versions = {name: version for name, version in tables.versions().items() if name not in RUN_TABLES}
    for table, schema in RUN_TABLES.items():
        stage = writer.stage(tables, table, schema, replacement)
        try:
            for ledger, outcome in outcomes:
                rows = _fact_rows(table, ledger, outcome, versions)
                while some := list(islice(rows, _FACT_ROWS)):
                    stage.write(batch(schema, date, outcome.run.run_id, some))
            writer.commit(tables, table, stage)
        finally:
            stage.discard()


def mark(
    ledger: Ledger,
    publication: Publication,
    sequence: int,
    ready: Sequence[SliceFacts],
    counts: Mapping[str, Counts],
) -> None:
    """Mark slices as *published* in the ledger, with the counts of each."""
    outcomes = {}
    for facts in ready:
        counted = counts[facts.slice.slice_id]
        if counted.ambiguous:
            log.error("%s: %s; then nimble-etl replay %s", facts.slice, counted.ambiguous, ledger.run().run_id)
        for name in shortened(sorted(counted.drift)):
            log.warning("%s: the service model does not know %s", facts.slice, name)
        outcomes[facts.slice.slice_id] = {
            "rows": counted.rows,
            "rejects": counted.rejects,
            "duplicates": counted.duplicates,
            "drift": counted.drift,
            "partial": not facts.whole,
            "table_rows": counted.tables,
        }
    ledger.mark_published(publication, sequence, outcomes)
    reach("publication.marked")


def _replace_nothing_whole(ledger: Ledger, tables: Tables, parts: Iterable[SliceFacts]) -> Iterator[SliceFacts]:
    """Yield the incomplete slices that would not replace a complete snapshot of their date."""
    rows = tables.rows("etl_slices", ledger.run().snapshot_date, ["slice_id", "is_published", "is_partial"])
    complete = {row["slice_id"] for row in rows if row["is_published"] and not row["is_partial"]}
    for facts in parts:
        if facts.slice.slice_id in complete:
            log.warning(
                "%s: readers keep its complete snapshot of this date; the partial one is not published", facts.slice
            )
        else:
            yield facts


def _fact_rows(
    table: str, ledger: Ledger, outcome: Outcome, table_versions: Mapping[str, int]
) -> Iterator[Mapping[str, object]]:
    if table == "etl_pages":
        told = {facts.slice.slice_id for facts in outcome.told}
        return (page_row(dict(row)) for row in ledger.page_facts() if row["slice_id"] in told)
    if table == "etl_slices":
        return map(slice_row, outcome.told)
    return iter([run_row(outcome, VERSION, table_versions)])
