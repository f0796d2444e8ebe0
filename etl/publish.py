"""From a ledger to the warehouse: stage every table, commit each at once, read back, then say *published*.

Nothing here asks the source for anything. Each step may be killed and done again: commits that landed are
recognised by their transaction id, staged files that did not become part of a table are removed.
"""

import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Protocol

import pyarrow as pa

from etl.errors import WarehouseError
from etl.failpoints import reach
from etl.ledger import Ledger
from etl.load.tables import Replacement, Stage, Tables
from etl.model import Outcome, RunFacts, SliceFacts, Snapshot, digest
from etl.transform.batches import flatten
from etl.transform.duplicates import find_superseded
from etl.transform.facts import RUN_TABLES, batch
from etl.transform.schema import REJECTS, Layout

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Takes rows: a `Stage`, or whoever wants to look at them."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Take some rows."""


@dataclass
class Counts:
    """What became of the records of one slice, and how many rows of each table they are."""

    rows: int = 0
    rejects: int = 0
    duplicates: int = 0
    drift: set[str] = field(default_factory=set)
    tables: dict[str, int] = field(default_factory=dict)


def publish(ledger: Ledger, tables: Tables, layout: Layout, *, partial: bool) -> None:
    """Publish the slices of a dataset that are complete and not published yet.

    Args:
        ledger: of the run.
        tables: the warehouse.
        layout: the tables of the dataset.
        partial: publish incomplete walks too, marked so; never over a complete snapshot of the same date.

    Raises:
        WarehouseError: what was read back is not what was written.
        CommitConflictError, CommitUnknownError, StorageError: as `Stage.commit` says.
    """
    ready = [facts for facts in ledger.slices(layout.dataset.name) if facts.whole and facts.publication is None]
    ready += [facts for facts in ledger.slices(layout.dataset.name) if facts.whole and facts.partial]
    if partial:
        ready += _ready_partials(ledger, tables, layout.dataset.name)
    if ready:
        _publish(ledger, tables, layout, ready)


def publish_facts(ledger: Ledger, tables: Tables, outcome: Outcome) -> None:
    """Write what the run did to etl_pages, etl_slices and etl_runs."""
    run = outcome.run
    publication = ledger.plan_publication("etl", [str(run.invocations)])
    rows = {
        "etl_pages": [_page_row(row) for row in ledger.page_facts()],
        "etl_slices": [_slice_row(facts) for facts in outcome.slices],
        "etl_runs": [_run_row(outcome)],
    }
    replacement = Replacement(run.snapshot_date, "run_id", (run.run_id,))
    for table, schema in RUN_TABLES.items():
        if not tables.is_committed(table, _app_id(run, table), publication.number):
            stage = tables.stage(table, schema, replacement, run.run_id)
            stage.write(batch(schema, run.snapshot_date, run.run_id, rows[table]))
            stage.commit(_app_id(run, table), publication.number)
    ledger.mark_published(publication, {})


def count_slice(
    ledger: Ledger, layout: Layout, snapshot: Snapshot, facts: SliceFacts, sinks: Mapping[str, Sink]
) -> Counts:
    """Lay the records of one slice out as rows, write them to the sinks that there are, by table, and count them.

    Raises:
        WarehouseError: some record would be neither a row, nor a reject, nor a duplicate.
    """
    superseded = find_superseded(layout.dataset, layout.operation, lambda: ledger.pages(facts.part))
    counts = Counts(duplicates=sum(map(len, superseded.values())))
    for flat in flatten(layout, snapshot, facts.part, ledger.pages(facts.part), superseded):
        for table, rows in {**flat.tables, "etl_rejects": flat.rejects}.items():
            counts.tables[table] = counts.tables.get(table, 0) + rows.num_rows
            if table in sinks:
                sinks[table].write(rows)
        counts.drift |= flat.drift
    counts.rows = counts.tables.get(layout.dataset.name, 0)
    counts.rejects = counts.tables.get("etl_rejects", 0)
    if counts.rows + counts.rejects + counts.duplicates != facts.records:
        raise WarehouseError(
            f"{facts.part}: {facts.records} records became {counts.rows} rows, {counts.rejects} rejects and "
            f"{counts.duplicates} duplicates; nothing was committed"
        )
    return counts


def _publish(ledger: Ledger, tables: Tables, layout: Layout, ready: Sequence[SliceFacts]) -> None:
    run = ledger.run()
    snapshot = Snapshot(run.run_id, run.snapshot_date, layout.dataset, layout.operation)
    slice_ids = tuple(facts.part.slice_id for facts in ready)
    publication = ledger.plan_publication(layout.dataset.name, slice_ids)
    reach("publication.planned")
    replacement = Replacement(run.snapshot_date, "slice_id", slice_ids)
    counts: dict[str, Counts] = {}
    # Rejects of all datasets share a table. The dataset's own table is the last to be committed.
    schemas = {"etl_rejects": REJECTS, **layout.schemas}
    with ExitStack() as staged:
        stages: dict[str, Stage] = {}
        for table, schema in schemas.items():
            if not tables.is_committed(table, _app_id(run, table), publication.number):
                stages[table] = tables.stage(table, schema, replacement, run.run_id)
                staged.callback(stages[table].discard)
        for facts in ready:
            counts[facts.part.slice_id] = count_slice(ledger, layout, snapshot, facts, stages)
        reach("table.staged")
        for table, stage in stages.items():
            stage.commit(_app_id(run, table), publication.number)
    _read_back(tables, schemas, replacement, counts)
    reach("snapshot.read_back")
    for facts in ready:
        for name in sorted(counts[facts.part.slice_id].drift):
            log.warning("%s: the service model does not know %s", facts.part, name)
    ledger.mark_published(
        publication,
        {
            facts.part.slice_id: {
                "rows": counts[facts.part.slice_id].rows,
                "rejects": counts[facts.part.slice_id].rejects,
                "duplicates": counts[facts.part.slice_id].duplicates,
                "drift": counts[facts.part.slice_id].drift,
                "partial": not facts.whole,
            }
            for facts in ready
        },
    )
    reach("publication.marked")


def _ready_partials(ledger: Ledger, tables: Tables, dataset: str) -> list[SliceFacts]:
    """Return the incomplete slices that may be published: those that would not replace a complete snapshot."""
    rows = tables.rows("etl_slices", ledger.run().snapshot_date, ["slice_id", "is_published", "is_partial"])
    complete = {row["slice_id"] for row in rows if row["is_published"] and not row["is_partial"]}
    ready = []
    for facts in ledger.slices(dataset):
        if facts.whole or not facts.pages:
            continue
        if facts.part.slice_id in complete:
            log.warning("%s: a complete snapshot of this date stays; the partial one is not published", facts.part)
        else:
            ready.append(facts)
    return ready


def _read_back(
    tables: Tables, schemas: Mapping[str, pa.Schema], replacement: Replacement, counts: Mapping[str, Counts]
) -> None:
    """Compare what the tables now hold with what was written.

    Raises:
        WarehouseError: they differ; the ledger does not say *published*.
    """
    for table in schemas:
        found = tables.count(table, replacement)
        for slice_id, expected in counts.items():
            written = expected.tables.get(table, 0)
            if found[slice_id] != written:
                raise WarehouseError(
                    f"table {table}, {replacement.snapshot_date}, slice {slice_id}: {found[slice_id]} rows were read "
                    f"back, {written} were written; run again: it publishes anew"
                )


def _run_row(outcome: Outcome) -> dict[str, Any]:
    names = ("pages", "records", "rows", "rejects", "duplicates", "retries")
    return {
        "started_at": outcome.run.started_at,
        "finished_at": dt.datetime.now(dt.UTC),
        "exit_code": outcome.exit_code,
        "seconds": round(outcome.run.seconds, 3),
        "invocations": outcome.run.invocations,
        "slices": len(outcome.slices),
        "slices_published": sum(facts.publication is not None for facts in outcome.slices),
        "version": version("nimble-etl"),
        **{name: outcome.total(name) for name in names},
    }


def _slice_row(facts: SliceFacts) -> dict[str, Any]:
    names = (
        "attempt", "pages", "records", "rows", "rejects", "duplicates", "retries", "observed_from", "observed_until",
        "error",
    )  # fmt: skip
    return {
        "slice_id": facts.part.slice_id,
        "dataset": facts.part.dataset,
        "account_id": facts.part.account_id,
        "region": facts.part.region,
        "parents": list(facts.part.parents.items()),
        "filters": list(facts.part.filters.items()),
        "is_filtered": bool(facts.part.filters),
        "state": facts.state.value,
        "is_published": facts.publication is not None,
        "is_partial": facts.partial,
        "drift": list(facts.drift),
        **{name: getattr(facts, name) for name in names},
    }


def _page_row(row: Any) -> dict[str, Any]:
    names = ("slice_id", "dataset", "attempt", "records", "kept", "size_bytes", "body_sha256", "request_id", "retries")
    token = row["next_starting_token"]
    return {
        "page_number": row["number"],
        "token_sha256": digest(token) if token else None,
        "received_at": dt.datetime.fromisoformat(row["received_at"]),
        **{name: row[name] for name in names},
    }


def _app_id(run: RunFacts, table: str) -> str:
    return f"nimble-etl/{run.run_id}/{table}"
