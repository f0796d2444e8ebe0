"""From a ledger to the warehouse: stage every table, commit each at once, read back, then say *published*.

Nothing here asks the source for anything. Each step may be killed and done again: commits that landed are
recognised by their transaction id, staged files that did not become part of a table are removed.
"""

import datetime as dt
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Protocol

import pyarrow as pa

from etl.config import Publish as Limits
from etl.config import Settings
from etl.errors import CommitConflictError, CommitUnknownError, EtlError, LedgerError, WarehouseError
from etl.failpoints import reach
from etl.ledger.ledger import Ledger, Publication, ledger_paths
from etl.load.changes import Comparison, write_changes
from etl.load.delta.tables import Replacement, Stage, Tables
from etl.load.falls import find_falls
from etl.load.snapshots import next_snapshots, previous_snapshots
from etl.model import SliceFacts, SliceState, Snapshot, digest
from etl.outcome import Outcome
from etl.transform.batches import flatten
from etl.transform.duplicates import find_superseded
from etl.transform.facts import RUN_TABLES, batch
from etl.transform.schema import REJECTS, Layout, layout

log = logging.getLogger(__name__)

UNPUBLISHABLE = (WarehouseError, CommitConflictError, CommitUnknownError)
"""What is wrong with a table, or with another writer: the pages are safe in their ledger."""

_TRIES = 3
"""How often one invocation publishes slices that another machine publishes too."""


class Sink(Protocol):
    """Takes rows: a `Stage`, or whoever wants to look at them."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Take some rows."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who commits: its name and number make commits recognisable, `prefix` begins the names of its files."""

    name: str
    number: int
    prefix: str
    rebuild: bool = False

    def is_committed(self, tables: Tables, table: str, label: str | None = None) -> bool:
        """Tell whether this writer's commit to a table has landed; a label tells several to one table apart."""
        return tables.is_committed(table, f"{self.name}/{label or table}", self.number)

    def stage(self, tables: Tables, table: str, schema: pa.Schema, replacement: Replacement) -> Stage:
        """Return an empty stage."""
        return tables.stage(table, schema, replacement, self.prefix, rebuild=self.rebuild)

    def commit(self, stage: Stage, label: str) -> None:
        """Commit a stage; see there."""
        stage.commit(f"{self.name}/{label}", self.number)


@dataclass
class Counts:
    """What became of the records of one slice, and how many rows of each table they are."""

    rows: int = 0
    rejects: int = 0
    duplicates: int = 0
    drift: set[str] = field(default_factory=set)
    tables: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """A ledger, and those of its slices that are published together."""

    ledger: Ledger
    ready: Sequence[SliceFacts]


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
        ledger.hold_back(facts.part, reason)
        ready.remove(facts)
    if partial:
        ready += _ready_partials(ledger, tables, layout.dataset.name)
    else:
        _hold_back_parts(ledger, layout.dataset.name)
    if ready:
        _publish_ready(ledger, tables, layout, ready)


def settle(settings: Settings, tables: Tables) -> None:
    """Finish what killed processes began to publish: the next catalog would show half of it. Nothing is requested.

    Raises:
        EtlError: as `publish` says; of several, the first.
    """
    failures = settle_as_far_as_possible(settings, tables)
    if failures:
        raise failures[0]


def settle_as_far_as_possible(settings: Settings, tables: Tables) -> list[EtlError]:
    """Do as `settle` does, and return why some of it cannot be finished.

    Args:
        settings: say where the ledgers are, and what the key of hashes is. A ledger that cannot be read is left to
            the run that needs it.
        tables: the warehouse.

    Raises:
        EtlError: as `publish` says, but for what is wrong with a table.
    """
    failures: list[EtlError] = []
    for path in ledger_paths(settings.state_dir):
        try:
            with Ledger.open(path) as ledger:
                _settle(ledger, tables, settings.privacy.secret)
        except LedgerError as exc:
            log.warning("%s", exc)
        except UNPUBLISHABLE as exc:
            log.error("%s: what it began to publish cannot be finished: %s", path.name, exc)  # noqa: TRY400
            failures.append(exc)
    return failures


def _settle(ledger: Ledger, tables: Tables, secret: bytes | None) -> None:
    for publication in ledger.open_publications():
        log.info("run %s ended while it published %s: that is finished", ledger.run().run_id, publication.dataset)
        slices = ledger.slices(publication.dataset)
        ready = [facts for facts in slices if facts.part.slice_id in publication.slice_ids]
        _publish_ready(ledger, tables, layout(*ledger.datasets()[publication.dataset], secret), ready)
    if ledger.owes_facts():
        publish_facts(tables, [(ledger, Outcome(ledger.run(), tuple(ledger.slices()), 0))])


def _publish_ready(ledger: Ledger, tables: Tables, layout: Layout, ready: Sequence[SliceFacts]) -> None:
    for tries_left in reversed(range(_TRIES)):
        publication = ledger.plan_publication(layout.dataset.name, [facts.part.slice_id for facts in ready])
        reach("publication.planned")
        try:
            _publish_once(ledger, tables, layout, ready, publication)
        except (CommitConflictError, WarehouseError) as exc:
            # Its commits may have landed, and be replaced by now: under its number they would count as done for ever.
            ledger.mark_published(publication, {})
            if isinstance(exc, WarehouseError) or not tries_left:
                for facts in ready:
                    ledger.hold_back(facts.part, str(exc))
                raise
            log.warning("%s; trying again", exc)
        else:
            return


def _publish_once(
    ledger: Ledger, tables: Tables, layout: Layout, ready: Sequence[SliceFacts], publication: Publication
) -> None:
    run_id = ledger.run().run_id
    writer = Writer(f"nimble-etl/{run_id}", publication.number, run_id)
    counts = write_slices(tables, layout, [Source(ledger, ready)], writer)
    mark(ledger, publication, ready, counts)


def publish_facts(tables: Tables, outcomes: Sequence[tuple[Ledger, Outcome]], *, rebuild: bool = False) -> None:
    """Write what runs for one date did to etl_pages, etl_slices and etl_runs.

    With `rebuild`, these are all the runs that the date has: files that cannot be read are let go.
    """
    (date,) = {outcome.run.snapshot_date for _, outcome in outcomes}
    publications = [ledger.plan_publication("etl", [str(outcome.run.invocations)]) for ledger, outcome in outcomes]
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


def count_slice(
    ledger: Ledger, layout: Layout, snapshot: Snapshot, facts: SliceFacts, sinks: Mapping[str, Sink]
) -> Counts:
    """Lay the records of one slice out as rows, write them to the sinks that there are, by table, and count them.

    Raises:
        WarehouseError: some record would be neither a row, nor a reject, nor a duplicate.
    """
    superseded = find_superseded(layout, lambda: ledger.pages(facts.part))
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


def write_slices(tables: Tables, layout: Layout, sources: Sequence[Source], writer: Writer) -> dict[str, Counts]:
    """Replace slices of one date in every table of a dataset, read them back, and return their counts by slice id.

    Raises:
        WarehouseError: what was read back is not what was written.
        CommitConflictError: other writers were faster, or have replaced what was committed.
        CommitUnknownError, StorageError: as `Stage.commit` says.
    """
    (date,) = {source.ledger.run().snapshot_date for source in sources}
    slice_ids = tuple(facts.part.slice_id for source in sources for facts in source.ready)
    replacement = Replacement(date, "slice_id", slice_ids)
    counts: dict[str, Counts] = {}
    # Rejects of all datasets share a table. The dataset's own table is the last to be committed.
    schemas = {"etl_rejects": REJECTS, **layout.schemas}
    with ExitStack() as staged:
        stages: dict[str, Stage] = {}
        for table, schema in schemas.items():
            if not writer.is_committed(tables, table):
                stages[table] = writer.stage(tables, table, schema, replacement)
                staged.callback(stages[table].discard)
        for source in sources:
            snapshot = Snapshot(source.ledger.run().run_id, date, layout.dataset, layout.operation)
            for facts in source.ready:
                counts[facts.part.slice_id] = count_slice(source.ledger, layout, snapshot, facts, stages)
        reach("table.staged")
        for table, stage in stages.items():
            writer.commit(stage, table)
    _check_own(tables, schemas, replacement, {source.ledger.run().run_id for source in sources})
    _read_back(tables, schemas, replacement, counts)
    whole = [facts.part.slice_id for s in sources for facts in s.ready if facts.whole and not facts.part.filters]
    _log_changes(tables, layout, date, whole, writer)
    reach("snapshot.read_back")
    return counts


def _log_changes(tables: Tables, layout: Layout, date: dt.date, slice_ids: Sequence[str], writer: Writer) -> None:
    """Write what changed in complete, unfiltered snapshots since the ones before; and anew what followed them."""
    before = previous_snapshots(tables, date - dt.timedelta(days=1), slice_ids)
    by_date = {date: {name: before[name][0] if name in before else None for name in slice_ids}}
    for name, (later, _) in next_snapshots(tables, date, slice_ids).items():
        by_date.setdefault(later, {})[name] = date
    # Later dates first: what a date was like that retention has removed, the log says as it was before this one.
    for snapshot_date, previous_dates in sorted(by_date.items(), reverse=True):
        label = f"{layout.changes_table}@{snapshot_date}"
        if not previous_dates or writer.is_committed(tables, layout.changes_table, label):
            continue
        replacement = Replacement(snapshot_date, "slice_id", tuple(previous_dates))
        stage = writer.stage(tables, layout.changes_table, layout.changes, replacement)
        committed = tables.read(layout.dataset.name)
        assert committed is not None
        columns = [*(column.field.name for column in layout.columns), "extra"]
        keys = [column.field.name for column in layout.key_columns]
        try:
            write_changes(
                Comparison(committed, tables.read(layout.changes_table), date, snapshot_date, previous_dates),
                layout.changes,
                keys,
                [name for name in columns if name not in keys],
                stage,
            )
            writer.commit(stage, label)
        finally:
            stage.discard()


def mark(ledger: Ledger, publication: Publication, ready: Sequence[SliceFacts], counts: Mapping[str, Counts]) -> None:
    """Say *published* in the ledger, and how many rows each slice became."""
    outcomes = {}
    for facts in ready:
        counted = counts[facts.part.slice_id]
        for name in sorted(counted.drift):
            log.warning("%s: the service model does not know %s", facts.part, name)
        outcomes[facts.part.slice_id] = {
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
                f"{facts.part}: its walk began at a starting token, so it has not seen everything, and is not "
                "published; run again with --publish-partial too"
            )
            log.error("%s", reason)
            ledger.hold_back(facts.part, reason)


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


def _check_own(tables: Tables, schemas: Iterable[str], replacement: Replacement, run_ids: set[str]) -> None:
    """Look who wrote what the tables now hold: another machine may list the same slices.

    Raises:
        CommitConflictError: a table has rows of other runs, and readers would see a mixture.
    """
    for table in schemas:
        others = tables.values(table, replacement, "run_id") - run_ids
        if others:
            raise CommitConflictError(
                f"table {table}, {replacement.snapshot_date}: rows of run {', '.join(sorted(others))} were read back; "
                "another machine publishes the same slices. Run again: it publishes anew"
            )


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


def _fact_rows(table: str, ledger: Ledger, outcome: Outcome) -> Iterable[dict[str, Any]]:
    if table == "etl_pages":
        return map(_page_row, ledger.page_facts())
    return map(_slice_row, outcome.slices) if table == "etl_slices" else [_run_row(outcome)]


def _run_row(outcome: Outcome) -> dict[str, Any]:
    names = ("pages", "records", "rows", "rejects", "duplicates", "retries")
    return {
        "started_at": outcome.run.started_at,
        "finished_at": outcome.run.worked_until,
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
        "published_at": facts.published_at,
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
