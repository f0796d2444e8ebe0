"""Upkeep between runs: merge small files, and delete files that nobody reads."""

import datetime as dt
import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from etl.config import Settings
from etl.errors import LedgerError
from etl.jobs.warehouse import segments_store_of
from etl.jobs.workplace import workplace
from etl.ledger.directory import age_of, is_needed, ledger_paths
from etl.ledger.ledger import Ledger
from etl.ledger.segments import remove_chains
from etl.load.catalog.packs import remove_old_packs
from etl.load.delta import upkeep
from etl.load.delta.atomic import all_or_nothing
from etl.load.delta.tables import PARTITION, Replacement, Tables
from etl.load.snapshots import has_slices
from etl.outcome import CheckResult
from etl.pipeline.write import Writer
from etl.read.query import ask
from etl.transform.facts import SLICES, batch

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What was done to one table: its data files before and after, and the files removed from the disk."""

    table: str
    files_before: int
    files: int
    removed: int


def compact(settings: Settings) -> list[Upkeep]:
    """Merge the data files of each date of each table into one, and build the catalog.

    Rows stay as they are. The replaced files stay for their readers until `vacuum`.

    Raises:
        LockedError: another job works on this state directory.
        EtlError: a commit failed; what readers see has not changed.
    """
    done = []
    with workplace(settings) as place, place.alone():
        tables = place.tables
        for name in tables.names():
            before = tables.file_count(name)
            for date in tables.dates(name):
                upkeep.compact(tables, name, date)
            done.append(Upkeep(name, before, tables.file_count(name), 0))
        place.show()
    return done


def show(settings: Settings) -> tuple[CheckResult, ...]:
    """Build the catalog of everything committed anew, and return the checks of severity *error* that fail.

    Raises:
        LockedError: another job works on this state directory.
        EtlError: as `Workplace.show`; the old catalog stays.
    """
    with workplace(settings) as place, place.alone():
        return place.show(anew=True)


def vacuum(settings: Settings, *, at_once: bool = False) -> list[Upkeep]:
    """Remove files that no table names any more and that are older than `warehouse.vacuum_grace`.

    If `warehouse.keep_snapshots` is set, older daily partitions are dropped first. With `at_once`, younger files go
    too: whoever has an older catalog open must connect again.

    Raises:
        LockedError: another job works on this state directory.
        EtlError: the disk refused; what readers see has not changed.
    """
    done = []
    with workplace(settings) as place, place.alone():
        tables = place.tables
        place.show()  # a killed run may have left a catalog that names older files
        if settings.warehouse.keep_snapshots is not None:
            for failure in place.fetch_ledgers():
                log.warning("%s", failure)
        if _drop_old_dates(settings, tables):
            place.show()
        grace = dt.timedelta(0) if at_once else settings.warehouse.vacuum_grace
        if place.registry:  # before files go: no snapshot may name one that is gone
            place.registry.register(tables)
            place.registry.expire(tables, grace)
        packs = remove_old_packs(tables.store, grace)
        for name in tables.names():
            before = tables.file_count(name)
            removed = upkeep.vacuum(tables, name, grace) + packs.get(name, 0)
            done.append(Upkeep(name, before, tables.file_count(name), removed))
        _remove_chains(settings, grace)
    return done


def _remove_chains(settings: Settings, grace: dt.timedelta) -> None:
    """Remove what workers have kept of runs that are over, and of old runs of other machines."""
    resumable = settings.run.max_checkpoint_age
    ledgers = {path.stem: path for path in ledger_paths(settings.state_dir)}

    @cache
    def is_over(run_id: str) -> bool:
        age = age_of(Path(run_id)) or dt.timedelta(0)
        if ledger := ledgers.get(run_id):
            return not is_needed(ledger, may_be_resumed=age <= resumable)
        return age > max(grace, resumable)

    remove_chains(segments_store_of(settings), is_over)


def _drop_old_dates(settings: Settings, tables: Tables) -> bool:
    """Drop the daily partitions that are too old; tell whether there were any.

    The newest snapshot of a slice stays, however old it is. So does a date whose pages a ledger still has: `verify`
    compares the two.
    """
    keep = settings.warehouse.keep_snapshots
    if keep is None:
        return False
    newest = ask(tables.store, "select distinct snapshot_date from current_slices")
    kept = {*newest.column(0).to_pylist(), *_dates_of_ledgers(settings)}
    oldest = dt.datetime.now(dt.UTC).date() - keep
    daily = [table for name in tables.names() if (table := tables.read(name)) and has_slices(table)]
    dates = {date for table in daily for date in table.files if date < oldest and date not in kept}
    for date in sorted(dates):
        log.info("the daily rows of %s are dropped: warehouse.keep_snapshots is %s", date, keep)
        with all_or_nothing(tables):
            for table in daily:
                upkeep.drop(tables, table.name, date)
            _note_drop(tables, date)
    return bool(dates)


def _note_drop(tables: Tables, date: dt.date) -> None:
    """Say in etl_slices that the daily rows of a date are dropped: otherwise they would pass for lost."""
    empty = dict.fromkeys(SLICES.names)
    by_run: dict[str, list[dict[str, object]]] = {}
    for row in tables.rows("etl_slices", date, [name for name in SLICES.names if name != PARTITION]):
        by_run.setdefault(row["run_id"], []).append({**empty, **row, "is_dropped": True})
    writer = Writer(f"drop-{uuid.uuid4().hex}")
    stage = writer.stage(tables, "etl_slices", SLICES, Replacement(date, "run_id", tuple(by_run)))
    try:
        for run_id, rows in by_run.items():
            stage.write(batch(SLICES, date, run_id, rows))
        writer.commit(tables, "etl_slices", stage)
    finally:
        stage.discard()


def _dates_of_ledgers(settings: Settings) -> Iterator[dt.date]:
    for path in ledger_paths(settings.state_dir):
        try:
            with Ledger.open(path) as ledger:
                yield ledger.run().snapshot_date
        except LedgerError as exc:
            log.warning("%s", exc)
