"""How the job stands: the last runs, what is unfinished, and how old each studio's snapshot is."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from etl.config import Settings
from etl.errors import LedgerError
from etl.extract.datasets import select_datasets
from etl.ledger.directory import ledger_paths
from etl.ledger.ledger import Ledger
from etl.model import RunState
from etl.read.query import Catalog, open_catalog
from etl.sqltext import quoted

_RUNS = """
select snapshot_date, run_id, exit_code, slices_published, slices, pages, records, rows, rejects, duplicates, retries,
    seconds
from etl_runs order by started_at desc limit $last
"""
_SNAPSHOTS = """
with last as (
    select slice_id, any_value(dataset) as dataset, any_value(region) as region, any_value(parents) as parents,
        arg_max(state, run_id) as last_walk, arg_max_null(error, run_id) as error
    from etl_slices
    where not is_filtered
    group by slice_id
)
select last.dataset, last.region, last.parents, snapshot_date, rows,
    date_sub('second', observed_until, $now) as seconds_old, last_walk, error
from last
left join current_slices using (slice_id)
order by last.dataset, last.region, last.parents::varchar
"""


@dataclass(frozen=True, slots=True)
class Status:
    """Rows for people and for JSON. `unfinished` are runs that the next `run` may go on with.

    `is_stale`: a slice that its parent still lists has no snapshot younger than `status.max_age`.
    """

    runs: list[dict[str, Any]]
    unfinished: list[dict[str, Any]]
    snapshots: list[dict[str, Any]]
    is_stale: bool = False


def status(settings: Settings, last: int) -> Status:
    """Return the last published runs, unfinished runs, and the newest complete snapshot of each slice."""
    catalog = settings.warehouse.catalog
    unfinished = _unfinished(settings)
    if not catalog.exists():
        return Status([], unfinished, [], is_stale=settings.status.max_age is not None)
    with open_catalog(catalog) as opened:
        runs = opened.rows(_RUNS, {"last": last})
        rows = opened.rows(_SNAPSHOTS, {"now": dt.datetime.now(dt.UTC)})
        listed = _listed(settings, opened)
    snapshots = []
    for row in rows:
        parents = row.pop("parents")
        is_listed = row["dataset"] not in listed or parents in listed[row["dataset"]]
        state = "ok" if is_listed else "no longer listed"
        seconds_old = row["seconds_old"]
        if is_listed and _is_old(settings, seconds_old):
            state = "too old"
        snapshots.append(
            {
                "dataset": row["dataset"],
                "region": row["region"],
                "slice": ", ".join(parents.values()),
                "snapshot_date": row["snapshot_date"],
                "rows": row["rows"],
                "hours_old": None if seconds_old is None else round(seconds_old / 3600, 1),
                "last_walk": row["last_walk"],
                "state": state,
                "error": row["error"],
            }
        )
    return Status(runs, unfinished, snapshots, any(row["state"] == "too old" for row in snapshots))


def _is_old(settings: Settings, seconds_old: int | None) -> bool:
    limit = settings.status.max_age
    return limit is not None and (seconds_old is None or dt.timedelta(seconds=seconds_old) >= limit)


def _listed(settings: Settings, catalog: Catalog) -> dict[str, list[dict[str, str]]]:
    """Return the parameters of the slices that each dataset has now, where its parent's rows are in the catalog."""
    tables = {row["view_name"] for row in catalog.rows("select view_name from duckdb_views()")}
    listed = {}
    for dataset in select_datasets(settings.datasets, settings.privacy.rules).values():
        if dataset.for_each and dataset.for_each.dataset in tables:
            bound = dataset.for_each.bind.items()
            columns = ", ".join(f"{quoted(column)} as {quoted(name)}" for name, column in bound)
            statement = f"select distinct {columns} from {quoted(dataset.for_each.dataset)}"  # noqa: S608
            listed[dataset.name] = [{**dataset.fixed_parents, **bound} for bound in catalog.rows(statement)]
    return listed


def _unfinished(settings: Settings) -> list[dict[str, Any]]:
    rows = []
    for path in ledger_paths(settings.state_dir):
        try:
            with Ledger.open(path) as ledger:
                run = ledger.run()
                if run.state is not RunState.OPEN:
                    continue
                rows += [
                    {
                        "snapshot_date": run.snapshot_date,
                        "run_id": run.run_id,
                        "slice": str(facts.slice),
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
