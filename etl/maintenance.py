"""What may be done to the warehouse at leisure: fewer files, and none that nobody reads any more."""

from dataclasses import dataclass

from etl.catalog import refresh_catalog
from etl.config import Settings
from etl.load.tables import Tables
from etl.publish import settle
from etl.state import check_writable, lock


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What was done to one table: data files before and after, and files removed from the disk."""

    table: str
    files_before: int
    files: int
    removed: int


def compact(settings: Settings) -> list[Upkeep]:
    """Write each date of each table that has several data files into one, and build the catalog.

    Rows stay as they are; the files replaced stay for their readers until `vacuum`.

    Raises:
        LockedError: a run is at work on this state directory.
        EtlError: as a commit says; what readers see has not changed.
    """
    done = []
    with lock(settings):
        check_writable(settings)
        tables = Tables(settings.warehouse.path)
        settle(settings, tables)
        for name in tables.names():
            before = tables.file_count(name)
            for date in tables.dates(name):
                tables.compact(name, date)
            done.append(Upkeep(name, before, tables.file_count(name), 0))
        refresh_catalog(settings, tables)
    return done


def vacuum(settings: Settings) -> list[Upkeep]:
    """Remove files that no table names any more, once they are older than `warehouse.vacuum_grace`.

    Raises:
        LockedError: a run is at work on this state directory.
        EtlError: the disk refused; what readers see has not changed.
    """
    done = []
    with lock(settings):
        check_writable(settings)
        tables = Tables(settings.warehouse.path)
        settle(settings, tables)
        refresh_catalog(settings, tables)  # a run that was killed may have left one that names older files
        for name in tables.names():
            before = tables.file_count(name)
            removed = tables.vacuum(name, settings.warehouse.vacuum_grace)
            done.append(Upkeep(name, before, tables.file_count(name), removed))
    return done
