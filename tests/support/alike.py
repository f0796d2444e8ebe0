"""What two jobs have in their warehouses, so that one can be compared with the other."""

import datetime as dt

from etl.emulator import World
from etl.load.delta.tables import Tables
from support.job import NIGHT, job_at
from support.studios import studio_of

NEXT = NIGHT + dt.timedelta(days=1)

OWN = {
    "run_id", "extracted_at", "received_at", "request_id", "started_at", "finished_at", "seconds", "invocations",
    "observed_from", "observed_until", "published_at", "retries", "table_versions", "publication",
}  # fmt: skip
"""Columns that differ between two runs that see the same."""


def everything(job):
    """Return the rows of every table of the warehouse, with all dates, in order, without what is a run's own."""
    tables = Tables(job.store)
    found = {}
    for name in tables.names():
        rows = []
        for date in tables.dates(name):
            columns = [column for column in tables.read(name).schema.names if column not in {*OWN, "snapshot_date"}]
            rows += [f"{date} {row}" for row in tables.rows(name, date, columns)]
        found[name] = sorted(rows)
    return found


def two_nights_of_threads(world: World, directory):
    """Return what one process exports after each of two nights of a world, five records on a page."""
    found = []
    for at in NIGHT, NEXT:
        with studio_of(world, at=at, page_size=5) as studio:
            job = job_at(directory, studio)
            assert job.finish("run", "--snapshot-date", at.date().isoformat()) == 0
            found.append(everything(job))
    return found
