"""Upkeep between runs: merge small files, and delete files that nobody reads."""

import datetime as dt
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from etl.config import Settings
from etl.errors import LedgerError
from etl.jobs.workplace import workplace
from etl.ledger.directory import ledger_paths
from etl.ledger.ledger import Ledger
from etl.load.catalog.packs import remove_old_packs
from etl.load.catalog.views import has_slices
from etl.load.delta import upkeep
from etl.load.delta.tables import Tables
from etl.read.query import ask

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
    with workplace(settings) as place:
        place.check_settled()
        tables = place.tables
        for name in tables.names():
            before = tables.file_count(name)
            for date in tables.dates(name):
                upkeep.compact(tables, name, date)
            done.append(Upkeep(name, before, tables.file_count(name), 0))
        place.show()
    return done


def vacuum(settings: Settings) -> list[Upkeep]:
    """Remove files that no table names any more and that are older than `warehouse.vacuum_grace`.

    If `warehouse.keep_snapshots` is set, older daily partitions are dropped first.

    Raises:
        LockedError: another job works on this state directory.
        EtlError: the disk refused; what readers see has not changed.
    """
    done = []
    with workplace(settings) as place:
        place.check_settled()
        tables = place.tables
        place.show()  # a killed run may have left a catalog that names older files
        if _drop_old_dates(settings, tables):
            place.show()
        grace = settings.warehouse.vacuum_grace
        packs = remove_old_packs(tables, grace)
        for name in tables.names():
            before = tables.file_count(name)
            removed = upkeep.vacuum(tables, name, grace) + packs.get(name, 0)
            done.append(Upkeep(name, before, tables.file_count(name), removed))
    return done


def _drop_old_dates(settings: Settings, tables: Tables) -> bool:
    """Drop the daily partitions that are too old; tell whether there were any.

    The newest snapshot of a slice stays, however old it is. So does a date whose pages a ledger still has: `verify`
    compares the two.
    """
    keep = settings.warehouse.keep_snapshots
    if keep is None:
        return False
    newest = ask(settings.warehouse.catalog, "select distinct snapshot_date from current_slices")
    kept = {*newest.column(0).to_pylist(), *_dates_of_ledgers(settings)}
    oldest = dt.datetime.now(dt.UTC).date() - keep
    dropped = False
    for name in tables.names():
        table = tables.read(name)
        if table and has_slices(table):
            for date in sorted(date for date in table.files if date < oldest and date not in kept):
                log.info("%s: the rows of %s are dropped: warehouse.keep_snapshots is %s", name, date, keep)
                upkeep.drop(tables, name, date)
                dropped = True
    return dropped


def _dates_of_ledgers(settings: Settings) -> Iterator[dt.date]:
    for path in ledger_paths(settings.state_dir):
        try:
            with Ledger.open(path) as ledger:
                yield ledger.run().snapshot_date
        except LedgerError as exc:
            log.warning("%s", exc)
