"""What two jobs have in their warehouses, so that one can be compared with the other."""

from etl.load.delta.tables import Tables

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
