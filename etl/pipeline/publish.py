"""From a ledger to the warehouse: what may be published, written in one go, then marked as *published*.

Nothing here asks the source for anything. Each step may be killed and done again: commits that landed are
recognised by their transaction id, staged files that did not become part of a table are removed.
"""

import logging
from collections.abc import Mapping, Sequence
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
"""How often one invocation publishes slices that another machine publishes too."""


def publish(
    ledger: Ledger, tables: Tables, layout: Layout, *, limits: Limits | None = None, partial: bool = False
) -> None:
    """Publish the slices of a dataset that are complete and not published yet.

    Args:
        ledger: of the run.
        tables: the warehouse.
        layout: the tables of the dataset.
        limits: hold slices back that fell further; None believes everything.
        partial: publish incomplete walks too, marked so; never over a complete snapshot of the same date.

    Raises:
        WarehouseError: what was read back is not what was written.
        CommitConflictError: other writers were faster, again and again.
        CommitUnknownError, StorageError: as `Stage.commit` says.
    """
    whole = [facts for facts in ledger.slices(layout.dataset.name) if facts.whole]
    ready = [facts for facts in whole if facts.publication is None or facts.partial]
    for facts, reason in find_falls(tables, ledger.run(), ready, limits) if limits else ():
        log.error("%s", reason)
        ledger.hold_back(facts.slice, reason)
        ready.remove(facts)
    if partial:
        ready += _ready_partials(ledger, tables, layout.dataset.name)
    else:
        _hold_back_parts(ledger, layout.dataset.name)
    if ready:
        publish_ready(ledger, tables, layout, ready)


def publish_ready(ledger: Ledger, tables: Tables, layout: Layout, ready: Sequence[SliceFacts]) -> None:
    """Publish these slices, whatever other machines do meanwhile.

    Raises:
        EtlError: as `publish` says; the ledger says why the slices are held back.
    """
    for tries_left in reversed(range(_TRIES)):
        publication = ledger.plan_publication(layout.dataset.name, [facts.slice.slice_id for facts in ready])
        reach("publication.planned")
        try:
            _publish_once(ledger, tables, layout, ready, publication)
        except (CommitConflictError, WarehouseError) as exc:
            # Its commits may have landed, and be replaced by now: under its number they would count as done for ever.
            ledger.mark_published(publication, {})
            if isinstance(exc, WarehouseError) or not tries_left:
                for facts in ready:
                    ledger.hold_back(facts.slice, str(exc))
                raise
            log.warning("%s; trying again", exc)
        else:
            return


def _publish_once(
    ledger: Ledger, tables: Tables, layout: Layout, ready: Sequence[SliceFacts], publication: Publication
) -> None:
    run_id = ledger.run().run_id
    writer = Writer(f"nimble-etl/{run_id}", publication.number, run_id)
    counts = write_slices(tables, layout, [Walked(ledger, ready)], writer)
    mark(ledger, publication, ready, counts)


def publish_facts(tables: Tables, outcomes: Sequence[tuple[Ledger, Outcome]], *, rebuild: bool = False) -> None:
    """Write what runs for one date did to etl_pages, etl_slices and etl_runs.

    With `rebuild`, these are all the runs that the date has: files that cannot be read are let go.
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
    """Say *published* in the ledger, and how many rows each slice became."""
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


def _hold_back_parts(ledger: Ledger, dataset: str) -> None:
    """Say of walks that reached the end, but did not begin at the first page, why they are not published."""
    for facts in ledger.slices(dataset):
        if facts.state is SliceState.COMPLETE and not facts.whole and facts.publication is None:
            reason = (
                f"{facts.slice}: its walk began at a starting token, so it has not seen everything, and is not "
                "published; run again with --publish-partial too"
            )
            log.error("%s", reason)
            ledger.hold_back(facts.slice, reason)


def _ready_partials(ledger: Ledger, tables: Tables, dataset: str) -> list[SliceFacts]:
    """Return the incomplete slices that may be published: those that would not replace a complete snapshot."""
    rows = tables.rows("etl_slices", ledger.run().snapshot_date, ["slice_id", "is_published", "is_partial"])
    complete = {row["slice_id"] for row in rows if row["is_published"] and not row["is_partial"]}
    ready = []
    for facts in ledger.slices(dataset):
        if facts.whole or not facts.pages:
            continue
        if facts.slice.slice_id in complete:
            log.warning("%s: a complete snapshot of this date stays; the partial one is not published", facts.slice)
        else:
            ready.append(facts)
    return ready


def _fact_rows(table: str, ledger: Ledger, outcome: Outcome) -> list[Mapping[str, object]]:
    if table == "etl_pages":
        return [page_row(dict(row)) for row in ledger.page_facts()]
    if table == "etl_slices":
        return [slice_row(facts) for facts in outcome.slices]
    return [run_row(outcome, version("nimble-etl"))]
