"""Forgetting: slices, or every record that ever had a value, leave ledgers, tables and change logs.

    make a plan -> note it in the state directory -> ledgers -> tables, all or nothing -> catalog -> drop the note

The note makes it one step. If a job is killed in between, the next one reads the note and goes on: each part may be
done twice. Nothing is searched again then, because ledgers may have forgotten already what tables still show.

A record goes as a whole: if it had the value on one date, it goes from all dates. So what is left in a change log stays
true, because no row there depends on a row of another record.
"""

import datetime as dt
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from etl.errors import LedgerError
from etl.events import reach
from etl.ledger.directory import forget_note
from etl.ledger.erase import remove_slices, replace_pages, scrub
from etl.ledger.ledger import Ledger
from etl.load.changes import Comparison, compared_in, key_of_log, logged_dataset
from etl.load.delta.atomic import Change, all_or_nothing
from etl.load.delta.tables import Committed, Tables
from etl.load.snapshots import after_rejects, empty_snapshots, newest_publications, next_snapshots, previous_snapshots
from etl.outcome import COUNTS, Outcome
from etl.pipeline.forget_plan import Eraser, Plan
from etl.pipeline.publish import mark, publish_facts
from etl.pipeline.rewrite import Row, by_row, read_rows, rewrite_rows
from etl.pipeline.write import Walked, Writer, write_log, write_slices
from etl.storage.disk import open_own, put_in_place, storage_errors, sync_directory
from etl.transform.facts import RUN_TABLES
from etl.transform.schema import layout_of

FORGOTTEN = "forgotten"
"""What `pages_sha256` says of a slice that has lost rows, and whose pages are not here."""
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Touched:
    """How many rows go from a table, or records from a ledger, and the first and last of their dates."""

    place: str
    removed: int
    first_date: dt.date
    last_date: dt.date


@dataclass(frozen=True, slots=True)
class Left:
    """A column in which a value was not searched, and how many of the rows that stay have it there."""

    place: str
    rows: int


def survey(
    plan: Plan, tables: Tables, ledgers: Iterable[Path], secret: bytes | None
) -> tuple[list[Touched], list[Left]]:
    """Return from where a plan removes how much, and where its values still are afterwards. Nothing changes.

    Raises:
        LedgerError, WarehouseError: something that must be searched cannot be read.
    """
    eraser, found = Eraser(plan, secret), []
    left: Counter[str] = Counter()
    for name in tables.names():
        rows: Counter[dt.date] = Counter()
        for table, date, batch in _rows_of(tables, name):
            gone = eraser.rows(table, date, batch)
            rows[date] += sum(gone)
            for column, count in eraser.elsewhere(batch.filter(pc.invert(pa.array(gone)))).items():
                left[f"{name}.{column}"] += count
        found.append((f"table {name}", +rows))
    for path in ledgers:
        with Ledger.open(path) as ledger:
            date = ledger.run().snapshot_date
            whole = [facts for facts in ledger.slices() if plan.removes(facts.slice.slice_id, date)]
            ids = plan.ledgers.get(ledger.run().run_id, frozenset())
            searched = [facts.slice for facts in ledger.slices() if facts.slice.slice_id in ids]
            records = sum(count for slice_ in searched for _, count, _ in eraser.without(ledger, slice_))
            if whole or records:
                found.append((f"ledger {path.name}", Counter({date: records + sum(facts.records for facts in whole)})))
    touched = [Touched(place, sum(dates.values()), min(dates), max(dates)) for place, dates in found if dates]
    return touched, [Left(*each) for each in left.items()]


def _rows_of(tables: Tables, name: str) -> Iterator[tuple[Committed, dt.date, pa.RecordBatch]]:
    """Yield the rows of a table, except etl_runs, whose rows belong to no slice."""
    table = tables.read(name)
    if table is None or "slice_id" not in table.schema.names:
        return
    for date in table.files:
        for batch in read_rows(table, date):
            yield table, date, batch


def note(state_dir: Path, plan: Plan) -> None:
    """Note a plan durably: whatever happens now, it will be carried out.

    Raises:
        StorageError: the disk refused; nothing has changed.
    """
    path = forget_note(state_dir)
    draft = path.with_suffix(".new")
    with storage_errors(path):
        with open(open_own(draft, os.O_WRONLY | os.O_TRUNC), "w", encoding="utf-8") as file:  # noqa: PTH123  a descriptor
            file.write(plan.model_dump_json())
        put_in_place(draft, path)
    reach("forget.noted")


def noted(state_dir: Path) -> Plan | None:
    """Return the plan that is noted; None without one.

    Raises:
        LedgerError: the note is damaged.
    """
    path = forget_note(state_dir)
    with storage_errors(path):
        if not path.exists():
            return None
        text = path.read_bytes()
    try:
        return Plan.model_validate_json(text)
    except ValidationError as exc:
        raise LedgerError(
            f"{path}: this note about what is to be forgotten is damaged. Remove it, and run the same "
            "`nimble-etl forget` again"
        ) from exc


def drop_note(state_dir: Path) -> None:
    """Remove the note: everything is done.

    Raises:
        StorageError: the disk refused.
    """
    with storage_errors(forget_note(state_dir)):
        forget_note(state_dir).unlink(missing_ok=True)
        sync_directory(state_dir)


def carry_out(
    plan: Plan, tables: Tables, ledgers: Sequence[Path], secret: bytes | None, remove: Callable[[Path], None]
) -> None:
    """Remove what a plan says from ledgers and tables. The catalog still shows it. May be done twice.

    The caller holds the lock of the warehouse, and has noted the plan. `remove` removes a ledger of which nothing is
    left.

    Raises:
        LedgerError: a ledger cannot be read.
        WarehouseError, CommitConflictError, CommitUnknownError: a table cannot be rewritten; no table has changed.
        StorageError: the disk refused.
    """
    eraser = Eraser(plan, secret)
    for path in ledgers:
        _erase_from_ledger(eraser, path, remove)
        reach("ledger.rewritten")
    left = [path for path in ledgers if path.stem in plan.ledgers and path.exists()]
    with all_or_nothing(tables) as change:
        _erase_from_tables(eraser, tables)
        for path in left:
            with Ledger.open(path) as ledger:
                _publish_again(ledger, plan.ledgers[path.stem], tables, change, secret)
    for path in left:
        with Ledger.open(path) as ledger:
            ledger.confirm()
            scrub(ledger)


def _erase_from_ledger(eraser: Eraser, path: Path, remove: Callable[[Path], None]) -> None:
    """Remove slices and records from a ledger, or the ledger if it has no other slices."""
    with Ledger.open(path) as ledger:
        run = ledger.run()
        slices = [facts.slice for facts in ledger.slices()]
        whole = [one.slice_id for one in slices if eraser.plan.removes(one.slice_id, run.snapshot_date)]
        if whole and len(whole) < len(slices):
            remove_slices(ledger, whole)
        changed = eraser.plan.ledgers.get(run.run_id, frozenset())
        for one in slices:
            if one.slice_id in changed:
                replace_pages(ledger, one, [page for page, _, _ in eraser.without(ledger, one)])
        if whole or changed:
            scrub(ledger)
    if whole and len(whole) == len(slices):
        remove(path)


def _erase_from_tables(eraser: Eraser, tables: Tables) -> None:
    writer = Writer(f"forget-{secrets.token_hex(8)}")
    followers = _log_across(eraser.plan, tables, writer)
    gone: dict[dt.date, dict[str, Counter[_Place]]] = {}
    for name in tables.names():
        table = tables.read(name)
        if table is None or name in RUN_TABLES:
            continue
        for date in table.files:
            if found := _gone(eraser, table, date):
                rewrite_rows(tables, name, date, partial(_kept, eraser, table, date), writer)
                if not logged_dataset(table.schema):
                    gone.setdefault(date, {})[name] = found
    for date in tables.dates("etl_slices"):
        _rewrite_facts(eraser.plan, tables, date, gone.get(date, {}), writer)
    for name, date, compared in followers:  # only now, for these read the log itself
        for later, previous_dates in after_rejects(tables, date, compared):
            _compare_again(tables, name, later, previous_dates, writer)


_Place = tuple[str, str, int | None]
"""Run id, slice id and, except in a change log, page number of a row."""


def _gone(eraser: Eraser, table: Committed, date: dt.date) -> Counter[_Place]:
    """Count the rows of a date that go."""
    found: Counter[_Place] = Counter()
    for batch in read_rows(table, date):
        mask = eraser.rows(table, date, batch)
        if any(mask):
            rows = batch.filter(pa.array(mask))
            pages = rows["page_number"].to_pylist() if "page_number" in rows.schema.names else [None] * len(rows)
            found.update(zip(rows["run_id"].to_pylist(), rows["slice_id"].to_pylist(), pages, strict=True))
    return found


def _kept(eraser: Eraser, table: Committed, date: dt.date, batch: pa.RecordBatch) -> pa.RecordBatch:
    gone = eraser.rows(table, date, batch)
    return batch.filter(pc.invert(pa.array(gone))) if any(gone) else batch


def _rewrite_facts(
    plan: Plan, tables: Tables, date: dt.date, gone: Mapping[str, Counter[_Place]], writer: Writer
) -> None:
    """Take what has gone out of the facts about the runs of a date, as if it had never been listed.

    `gone` counts the rows that each table has lost.
    """
    slices = tables.rows("etl_slices", date, ["run_id", "slice_id", "dataset", "is_published", *COUNTS])
    datasets = {row["slice_id"]: row["dataset"] for row in slices}
    by_slice: dict[tuple[str, str], Counter[str]] = {}
    by_page: Counter[_Place] = Counter()
    by_run: dict[str, Counter[str]] = {}
    for table, places in gone.items():
        for (run_id, slice_id, number), rows in places.items():
            if plan.removes(slice_id, date):
                continue
            by_slice.setdefault((run_id, slice_id), Counter())[table] += rows
            if table in {datasets.get(slice_id), "etl_rejects"}:
                by_page[run_id, slice_id, number] += rows
                kind = "rejects" if table == "etl_rejects" else "rows"
                by_run.setdefault(run_id, Counter()).update({kind: rows, "records": rows})
    for row in slices:
        if plan.removes(row["slice_id"], date):
            counts = {name: row[name] or 0 for name in COUNTS}
            lost_whole = {**counts, "slices": 1, "slices_published": int(row["is_published"])}
            by_run.setdefault(row["run_id"], Counter()).update(lost_whole)

    def slice_(row: Row) -> Row | None:
        lost = by_slice.get((row["run_id"], row["slice_id"]))
        if plan.removes(row["slice_id"], date):
            return None
        if not lost:
            return row
        rows, rejects = lost[row["dataset"]], lost["etl_rejects"]
        return {
            **row,
            "rows": row["rows"] - rows,
            "rejects": row["rejects"] - rejects,
            "records": row["records"] - rows - rejects,
            "table_rows": [(name, count - lost[name]) for name, count in row["table_rows"] or ()],
            "pages_sha256": FORGOTTEN,
        }

    def page(row: Row) -> Row | None:
        lost = by_page[row["run_id"], row["slice_id"], row["page_number"]]
        if plan.removes(row["slice_id"], date):
            return None
        return {**row, "records": row["records"] - lost, "kept": row["kept"] - lost} if lost else row

    def run(row: Row) -> Row | None:
        lost = by_run.get(row["run_id"], Counter())
        left = {name: (row[name] or 0) - count for name, count in lost.items()}
        return {**row, **left} if left.get("slices", 1) else None

    revised: Mapping[str, Callable[[Row], Row | None]] = {"etl_pages": page, "etl_slices": slice_, "etl_runs": run}
    for name, revise in revised.items():
        rewrite_rows(tables, name, date, by_row(revise), writer)


_Followers = list[tuple[str, dt.date, Mapping[str, dt.date | None]]]
"""Change log, date, and slice id -> date of the snapshot before."""


def _log_across(plan: Plan, tables: Tables, writer: Writer) -> _Followers:
    """Compare the snapshots after the dates that go with those before them, and return what was compared."""
    done: _Followers = []
    for name in tables.names() if plan.until else ():
        change_log = tables.read(name)
        if change_log is None or not logged_dataset(change_log.schema):
            continue
        logged = {row["slice_id"] for date in change_log.files for row in tables.rows(name, date, ["slice_id"])}
        slice_ids = logged & plan.slices
        before = previous_snapshots(tables, plan.since - _DAY, slice_ids) if plan.since else {}
        following: dict[dt.date, dict[str, dt.date | None]] = {}
        for slice_id, (date, _) in next_snapshots(tables, plan.until or dt.date.max, slice_ids).items():
            following.setdefault(date, {})[slice_id] = before[slice_id][0] if slice_id in before else None
        for date, previous_dates in sorted(following.items(), reverse=True):
            _compare_again(tables, name, date, previous_dates, writer)
            done.append((name, date, previous_dates))
    return done


def _compare_again(
    tables: Tables, name: str, date: dt.date, previous_dates: Mapping[str, dt.date | None], writer: Writer
) -> None:
    """Replace what a change log says about slices of a date."""
    change_log = tables.read(name)
    dataset = logged_dataset(change_log.schema) if change_log else None
    table = tables.read(dataset) if dataset else None
    if change_log and table:
        rejects, schema = tables.read("etl_rejects"), change_log.schema
        empty = empty_snapshots(tables, table, [date, *previous_dates.values()])
        comparison = Comparison(table, change_log, rejects, dt.date.min, date, previous_dates, empty)
        write_log(tables, name, schema, key_of_log(schema), compared_in(schema), comparison, writer)


def _publish_again(
    ledger: Ledger, slice_ids: Iterable[str], tables: Tables, change: Change, secret: bytes | None
) -> None:
    """Publish slices again whose pages have lost records, if readers see the publication of this ledger."""
    run = ledger.run()
    seen = newest_publications(tables, run.snapshot_date)
    shown = [
        facts
        for facts in ledger.slices()
        if facts.slice.slice_id in slice_ids and seen.get(facts.slice.slice_id, {}).get("run_id") == run.run_id
    ]
    for name in {facts.slice.dataset for facts in shown}:
        ready = [facts for facts in shown if facts.slice.dataset == name]
        publication = ledger.plan_publication(name, [facts.slice.slice_id for facts in ready])
        layout = layout_of(*ledger.datasets()[name], secret)
        counts = write_slices(tables, layout, [Walked(ledger, ready)], Writer(f"forget-{secrets.token_hex(8)}"))
        mark(ledger, publication, change.sequence, ready, counts)
    facts = tables.rows("etl_slices", run.snapshot_date, ["run_id"])
    if {"run_id": run.run_id} in facts:
        publish_facts(tables, [(ledger, Outcome(ledger.run(), tuple(ledger.slices()), 0))])
