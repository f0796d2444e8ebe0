"""How the job stands: the last runs, what is unfinished, and how old each studio's snapshot is."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from etl.config import Settings
from etl.errors import LedgerError
from etl.ledger import Ledger, ledger_paths
from etl.load.catalog import FILE_NAME
from etl.query import ask

_RUNS = """
select snapshot_date, run_id, exit_code, slices_published, slices, pages, records, rows, rejects, duplicates, retries,
    seconds
from etl_runs order by started_at desc limit $last
"""
_SNAPSHOTS = """
select dataset, region, coalesce(map_values(parents)[1], '') as slice, snapshot_date, rows,
    round(date_diff('second', observed_until, $now) / 3600.0, 1)::double as hours_old
from current_slices order by dataset, region, slice
"""


@dataclass(frozen=True, slots=True)
class Status:
    """Rows for people and for JSON. `unfinished` are runs that the next `run` may go on with."""

    runs: list[dict[str, Any]]
    unfinished: list[dict[str, Any]]
    snapshots: list[dict[str, Any]]


def status(settings: Settings, last: int) -> Status:
    """Return the last published runs, unfinished runs, and the newest complete snapshot of each slice."""
    catalog = settings.warehouse.path / FILE_NAME
    if not catalog.exists():
        return Status([], _unfinished(settings), [])
    runs = ask(catalog, _RUNS, {"last": last}).to_pylist()
    snapshots = ask(catalog, _SNAPSHOTS, {"now": dt.datetime.now(dt.UTC)}).to_pylist()
    return Status(runs, _unfinished(settings), snapshots)


def _unfinished(settings: Settings) -> list[dict[str, Any]]:
    rows = []
    for path in ledger_paths(settings.state_dir):
        try:
            with Ledger.open(path) as ledger:
                run = ledger.run()
                if run.state != "open":
                    continue
                rows += [
                    {
                        "snapshot_date": run.snapshot_date,
                        "run_id": run.run_id,
                        "slice": str(facts.part),
                        "state": facts.state.value,
                        "pages": facts.pages,
                        "records": facts.records,
                        "error": facts.error,
                    }
                    for facts in ledger.slices()
                ]
        except LedgerError as exc:
            rows.append({"run_id": path.stem, "state": "damaged", "error": str(exc)})
    return rows
