"""The state of the job: the last runs, the unfinished runs, and the age of each slice's snapshot."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from etl.config import Settings
from etl.errors import LedgerError
from etl.extract.datasets import select_datasets
from etl.ledger.directory import ledger_paths
from etl.ledger.ledger import Ledger
from etl.load.delta.atomic import freeze_whole
from etl.load.delta.tables import Tables
from etl.model import RunState
from etl.pipeline.losses import Loss, find_losses
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
select last.parents, date_sub('second', observed_until, $now) as seconds_old, last.dataset, last.region,
    array_to_string(map_values(last.parents), ', ') as slice, snapshot_date, rows,
    round(seconds_old / 3600, 1) as hours_old, last_walk, 'ok' as state, error
from last
left join current_slices using (slice_id)
order by last.dataset, last.region, last.parents::varchar
"""


@dataclass(frozen=True, slots=True)
class Status:
    """Rows for people and for JSON. `unfinished` has the slices of runs that the next `run` may continue.

    `losses` are what tables, facts and ledgers have lost of what was published. `is_stale` is true if a slice that its
    parent still lists has no snapshot younger than `status.max_age`.
    """

    runs: list[dict[str, Any]]
    unfinished: list[dict[str, Any]]
    snapshots: list[dict[str, Any]]
    losses: list[dict[str, Any]]
    is_stale: bool = False


def status(settings: Settings, last: int) -> Status:
    """Return the `last` published runs, the unfinished runs, and the newest complete snapshot of each slice."""
    catalog = settings.warehouse.catalog
    unfinished = list(_unfinished(settings))
    max_age = settings.status.max_age
    losses = [asdict(loss) for loss in losses_of(settings)]
    if not catalog.exists():
        return Status([], unfinished, [], losses, is_stale=max_age is not None)
    with open_catalog(catalog) as opened:
        runs = opened.rows(_RUNS, {"last": last})
        snapshots = opened.rows(_SNAPSHOTS, {"now": dt.datetime.now(dt.UTC)})
        listed = _listed(settings, opened)
    for row in snapshots:
        parents, seconds_old = row.pop("parents"), row.pop("seconds_old")
        if parents not in listed.get(row["dataset"], [parents]):
            row["state"] = "no longer listed"
        elif max_age is not None and (seconds_old is None or dt.timedelta(seconds=seconds_old) >= max_age):
            row["state"] = "too old"
    return Status(runs, unfinished, snapshots, losses, any(row["state"] == "too old" for row in snapshots))


def losses_of(settings: Settings) -> list[Loss]:
    """Return what is lost; nothing while a job publishes, because tables then hold a part of what it does."""
    tables = Tables(settings.warehouse.path)
    return list(find_losses(tables, ledger_paths(settings.state_dir))) if freeze_whole(tables) else []


def _listed(settings: Settings, catalog: Catalog) -> dict[str, list[dict[str, str]]]:
    """Return the parameters of each dataset's slices, if the catalog has the rows of its parent."""
    tables = {row["view_name"] for row in catalog.rows("select view_name from duckdb_views()")}
    listed = {}
    for dataset in select_datasets(settings.datasets, settings.privacy.rules).values():
        if dataset.for_each and dataset.for_each.dataset in tables:
            bound = dataset.for_each.bind.items()
            columns = ", ".join(f"{quoted(column)} as {quoted(name)}" for name, column in bound)
            statement = f"select distinct {columns} from {quoted(dataset.for_each.dataset)}"  # noqa: S608
            listed[dataset.name] = [{**dataset.fixed_parents, **bound} for bound in catalog.rows(statement)]
    return listed


def _unfinished(settings: Settings) -> Iterator[dict[str, Any]]:
    for path in ledger_paths(settings.state_dir):
        try:
            with Ledger.open(path) as ledger:
                run = ledger.run()
                for facts in ledger.slices() if run.state is RunState.OPEN else ():
                    yield {
                        "snapshot_date": run.snapshot_date,
                        "run_id": run.run_id,
                        "slice": str(facts.slice),
                        "state": facts.state.value,
                        "pages": facts.pages,
                        "records": facts.records,
                        "error": facts.error,
                    }
        except LedgerError as exc:
            yield {"run_id": path.stem, "state": "damaged", "error": str(exc)}
