"""From a ledger to the warehouse: choose what may be published, write it, and mark it as *published*.

Nothing here asks the source for anything. Each step may be killed and done again: commits that landed are recognised
by their transaction id, and staged files that did not become part of a table are removed.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version

from etl.config import Publish as Limits
from etl.errors import CommitConflictError, WarehouseError
from etl.events import reach
from etl.ledger.ledger import Ledger, Publication
from etl.load.delta.tables import Replacement, Tables
from etl.load.snapshots import find_falls
from etl.model import SliceFacts, SliceState
from etl.outcome import Outcome
from etl.pipeline.write import Counts, Walked, Writer, write_slices
from etl.transform.facts import RUN_TABLES, batch, page_row, run_row, slice_row
from etl.transform.schema import Layout

log = logging.getLogger(__name__)

_TRIES = 3
"""How often one invocation tries to publish slices that another machine publishes too."""
_PARTIAL = (
    "its walk began at a starting token and has not seen everything, so it is not published; "
    "run again with --publish-partial too"
)


def publish(
    ledger: Ledger, tables: Tables, layout: Layout, *, limits: Limits | None = None, partial: bool = False
) -> None:
    """Publish the slices of a dataset that are complete and not published yet.

    Slices that lost more records than `limits` allow are held back. With `partial`, incomplete walks are published too
    and marked as partial; they never replace a complete snapshot of the same date.

    Raises:
        WarehouseError: the rows that were read back are not those that were written.
        CommitConflictError: other writers were faster at every try.
        CommitUnknownError: a commit may have landed.
        StorageError: the disk refused.
    """
    slices = ledger.slices(layout.dataset.name)
    ready = [facts for facts in slices if facts.whole and (facts.publication is None or facts.partial)]
    held_back = list(find_falls(tables, ledger.run(), ready, limits)) if limits else []
    fallen = [facts for facts, _ in held_back]
    ready = [facts for facts in ready if facts not in fallen]
    parts = [facts for facts in slices if facts.pages and not facts.whole]
    if partial:
        ready += _replace_nothing_whole(ledger, tables, parts)
    else:
        unasked = [facts for facts in parts if facts.state is SliceState.COMPLETE and facts.publication is None]
        held_back += [(facts, f"{facts.slice}: {_PARTIAL}") for facts in unasked]
    for facts, reason in held_back:
        log.error("%s", reason)
        ledger.hold_back(facts.slice, reason)
    if ready:
        publish_ready(ledger, tables, layout, ready)


def publish_ready(ledger: Ledger, tables: Tables, layout: Layout, ready: Sequence[SliceFacts]) -> None:
    """Publish these slices, and try again if another machine publishes them at the same time.

    Raises:
        EtlError: as `publish` says. After a WarehouseError or CommitConflictError, the ledger notes the reason for
            each slice.
    """
    run_id = ledger.run().run_id
    for tries_left in reversed(range(_TRIES)):
        publication = ledger.plan_publication(layout.dataset.name, [facts.slice.slice_id for facts in ready])
        reach("publication.planned")
        try:
            writer = Writer(f"nimble-etl/{run_id}", publication.number, run_id)
            counts = write_slices(tables, layout, [Walked(ledger, ready)], writer)
            mark(ledger, publication, ready, counts)
        except (CommitConflictError, WarehouseError) as exc:
            # Its commits may have landed and been replaced since. Under this number they would never be repeated.
            ledger.mark_published(publication, {})
            if isinstance(exc, WarehouseError) or not tries_left:
                for facts in ready:
                    ledger.hold_back(facts.slice, str(exc))
                raise
            log.warning("%s; trying again", exc)
        else:
            return


def publish_facts(tables: Tables, outcomes: Sequence[tuple[Ledger, Outcome]], *, rebuild: bool = False) -> None:
    """Write the facts about runs of one date to etl_pages, etl_slices and etl_runs.

    With `rebuild`, these must be all runs of that date: files that cannot be read are replaced.
    """
    (date,) = {outcome.run.snapshot_date for _, outcome in outcomes}
    publications = [ledger.plan_facts(outcome.run.invocations) for ledger, outcome in outcomes]
    replacement = Replacement(date, "run_id", tuple(outcome.run.run_id for _, outcome in outcomes))
    run_id = replacement.values[-1]
    writer = Writer(f"nimble-etl/{run_id}", publications[-1].number, run_id, rebuild=rebuild)
    for table, schema in RUN_TABLES.items():
        if not writer.is_committed(tables, table):
            stage = writer.stage(tables, table, schema, replacement)
            try:
                for ledger, outcome in outcomes:
                    stage.write(batch(schema, date, outcome.run.run_id, _fact_rows(table, ledger, outcome)))
                writer.commit(stage, table)
            finally:
                stage.discard()
    for (ledger, _), publication in zip(outcomes, publications, strict=True):
        ledger.mark_published(publication, {})


def mark(ledger: Ledger, publication: Publication, ready: Sequence[SliceFacts], counts: Mapping[str, Counts]) -> None:
    """Mark slices as *published* in the ledger, with the counts of each."""
    outcomes = {}
    for facts in ready:
        counted = counts[facts.slice.slice_id]
        for name in sorted(counted.drift):
            log.warning("%s: the service model does not know %s", facts.slice, name)
        outcomes[facts.slice.slice_id] = {
            "rows": counted.rows,
            "rejects": counted.rejects,
            "duplicates": counted.duplicates,
            "drift": counted.drift,
            "partial": not facts.whole,
        }
    ledger.mark_published(publication, outcomes)
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


def _fact_rows(table: str, ledger: Ledger, outcome: Outcome) -> list[Mapping[str, object]]:
    if table == "etl_pages":
        return [page_row(dict(row)) for row in ledger.page_facts()]
    if table == "etl_slices":
        return [slice_row(facts) for facts in outcome.slices]
    return [run_row(outcome, version("nimble-etl"))]
