"""The state of the job: the last attempt and runs, the unfinished runs, and the age of each slice's snapshot."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from etl.config import EMBEDDED, GLOBAL, Settings
from etl.errors import ConfigError, CredentialsError, LedgerError, WarehouseError, shortened
from etl.extract.datasets import select_datasets
from etl.jobs.warehouse import store_of
from etl.ledger.directory import readable_ledgers
from etl.ledger.ledger import Ledger
from etl.load.delta.atomic import freeze_whole
from etl.load.delta.tables import Tables
from etl.load.snapshots import unended_shards
from etl.model import CATALOG_NAME, RunState, Shard, SliceState
from etl.observe.attempts import last_attempt
from etl.pipeline.losses import find_losses
from etl.read.query import Catalog, open_catalog
from etl.sqltext import quoted

_RUNS = """
select * exclude (started_at, finished_at, table_versions) from etl_runs order by started_at desc limit $last
"""
_OF_A_RUN = (
    "snapshot_date", "run_id", "shard", "exit_code", "slices_published", "slices", "pages", "records", "rows",
    "rejects", "duplicates", "retries", "seconds",
)  # fmt: skip
"""The catalog of a former version has no column `shard`."""
_SNAPSHOTS = """
with last as (
    select slice_id, any_value(dataset) as dataset, any_value(account_id) as account_id, any_value(region) as region,
        any_value(parents) as parents,
        arg_max(state, run_id) as last_walk, arg_max_null(error, run_id) as error
    from etl_slices
    where not is_filtered
    group by slice_id
)
select last.parents, date_sub('second', observed_until, $now) as seconds_old,
    last.dataset, last.account_id, last.region,
    array_to_string(map_values(last.parents), ', ') as slice, snapshot_date, rows,
    round(seconds_old / 3600, 1) as hours_old, last_walk, 'ok' as state, error
from last
left join current_slices using (slice_id)
order by last.dataset, last.account_id, last.region, last.parents::varchar
"""


_GOES_ON = "run{} continues it"
_OF_OTHERS = "asked for with other settings or flags: only such a run continues it"


@dataclass(frozen=True, slots=True)
class Status:
    """Rows for people and for JSON.

    Attributes:
        attempts: how the last invocation of `run` ended, whatever it published; empty if nobody knows.
        runs: the last published runs, newest first.
        unfinished: the slices of unfinished runs, and whether `run` continues them.
        snapshots: the newest complete snapshot of each slice.
        losses: what tables, facts and ledgers have lost of what was published.
        notes: what could not be looked at, and why.
        is_stale: whether a slice that its parent still lists has no snapshot younger than `status.max_age`.
    """

    attempts: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    unfinished: list[dict[str, Any]]
    snapshots: list[dict[str, Any]]
    losses: list[dict[str, Any]]
    notes: list[str]
    is_stale: bool = False


def status(settings: Settings, last: int) -> Status:
    """Return the `last` published runs, the unfinished runs, and the newest complete snapshot of each slice."""
    store, max_age = store_of(settings), settings.status.max_age
    ledgers, denied = readable_ledgers(settings.state_dir)
    notes = [f"{denied}. What these ledgers say is not shown"] if denied else []
    attempt = None if denied else last_attempt(settings.state_dir)
    unfinished = list(_unfinished(settings, ledgers))
    tables = Tables(store)
    # Tables hold a part of what a job publishes while it does.
    losses = [asdict(loss) for loss in (find_losses(tables, ledgers) if freeze_whole(tables) else ())]
    has_catalog = store.exists(store.at(CATALOG_NAME))
    awaited = [] if has_catalog else _awaited(tables)
    if awaited:
        notes.append(f"{CATALOG_NAME} is built when the last shard ends; not ended: {', '.join(shortened(awaited))}")
    elif not has_catalog and tables.names():
        losses.append(
            {"snapshot_date": None, "what": CATALOG_NAME, "problem": "is gone; `nimble-etl catalog` builds it"}
        )
    found = Status([attempt] if attempt else [], [], unfinished, [], losses, notes, is_stale=max_age is not None)
    if not has_catalog:
        return found
    with open_catalog(store) as opened:
        runs = [{name: row.get(name) for name in _OF_A_RUN} for row in opened.rows(_RUNS, {"last": last})]
        snapshots = opened.rows(_SNAPSHOTS, {"now": dt.datetime.now(dt.UTC)})
        listed = _listed(settings, opened)
    exported = {entry if isinstance(entry, str) else entry.name for entry in settings.exported}
    # What is walked only because slices come from it has no snapshots.
    snapshots = [row for row in snapshots if row["snapshot_date"] or row["dataset"] in exported]
    for row in snapshots:
        parents, seconds_old = row.pop("parents"), row.pop("seconds_old")
        if row["dataset"] in listed and listed[row["dataset"]].isdisjoint(_names_of(row, parents)):
            row["state"] = "no longer listed"
        elif seconds_old is None and row["last_walk"] == SliceState.SKIPPED:
            row["state"] = "skipped"
        elif max_age is not None and (seconds_old is None or dt.timedelta(seconds=seconds_old) >= max_age):
            row["state"] = "too old"
    is_stale = any(row["state"] == "too old" for row in snapshots)
    return replace(found, runs=runs, snapshots=snapshots, is_stale=is_stale)


def _awaited(tables: Tables) -> list[str]:
    """Return the shards of the newest night that have not ended."""
    date = max(tables.dates("etl_runs"), default=dt.date.min)
    try:
        told = {row.get("shard") for row in tables.rows("etl_runs", date, ["shard"])}
        return [name for text in told for name in unended_shards(tables, date, Shard.parse(text))]
    except WarehouseError:  # it is among the losses
        return []


_Listed = tuple[str, str, frozenset[tuple[str, str]]]
"""Account, Region and parameters of a slice. Without the Region, if it or its parent is of the whole partition."""


def _listed(settings: Settings, catalog: Catalog) -> dict[str, set[_Listed]]:
    """Return the slices of each dataset that its parent lists, if the catalog has the rows of its parent."""
    tables = {row["view_name"] for row in catalog.rows("select view_name from duckdb_views()")}
    listed: dict[str, set[_Listed]] = {}
    for dataset in select_datasets(settings.datasets, settings.privacy.rules).values():
        if dataset.for_each and dataset.for_each.dataset in tables:
            bound = dataset.for_each.of_slice.items()
            columns = ["account_id", "region", *(f"{quoted(column)} as {quoted(name)}" for name, column in bound)]
            parent = quoted(dataset.for_each.dataset)
            rows = catalog.rows(f"select distinct {', '.join(columns)} from {parent}")  # noqa: S608
            listed[dataset.name] = set()
            for row in rows:
                account_id, region = row.pop("account_id"), row.pop("region")
                parents = frozenset({**dataset.fixed_parents, **row}.items())
                anywhere = _EVERYWHERE if region.endswith(GLOBAL) else _SOMEWHERE
                listed[dataset.name] |= {(account_id, region, parents), (account_id, anywhere, parents)}
    return listed


_EVERYWHERE, _SOMEWHERE = "every Region", "some Region"


def _names_of(row: Mapping[str, Any], parents: Mapping[str, str]) -> set[_Listed]:
    """Return how the parent may list a slice."""
    regions = {row["region"], _EVERYWHERE, *([_SOMEWHERE] if row["region"].endswith(GLOBAL) else [])}
    return {(row["account_id"], region, frozenset(parents.items())) for region in regions}


def _request_of(settings: Settings, shard: Shard) -> str | None:
    """Return the fingerprint of a `run` without flags but `--shard`; None if the configuration allows none."""
    from etl.extract.clients import Clients, Endpoint  # noqa: PLC0415  with them, `status` would take twice as long
    from etl.extract.service_model import describe_operation, model_session  # noqa: PLC0415
    from etl.jobs.workplace import plan_of  # noqa: PLC0415

    try:
        clients = None if settings.source.endpoint_url == EMBEDDED else Clients(settings.source, Endpoint())
        describe = partial(describe_operation, model_session())
        endpoint_of = (lambda dataset: clients.endpoint_of(dataset.service)) if clients else (lambda _: None)
        return plan_of(settings, describe, endpoint_of, shard).fingerprint
    except (ConfigError, CredentialsError):
        return None


def _unfinished(settings: Settings, ledgers: Sequence[Path]) -> Iterator[dict[str, Any]]:
    request = cache(partial(_request_of, settings))  # it loads the service models
    for path in ledgers:
        try:
            with Ledger.open(path) as ledger:
                run = ledger.run()
                part = f" --shard {run.shard.text}" if run.shard.text else ""
                for facts in ledger.slices() if run.state is RunState.OPEN else ():
                    yield {
                        "snapshot_date": run.snapshot_date,
                        "run_id": run.run_id,
                        "account_id": facts.slice.account_id,
                        "region": facts.slice.region,
                        "slice": str(facts.slice),
                        "state": facts.state.value,
                        "pages": facts.pages,
                        "records": facts.records,
                        "next": _GOES_ON.format(part) if run.request == request(run.shard) else _OF_OTHERS,
                        "error": facts.error,
                    }
        except LedgerError as exc:
            yield {"run_id": path.stem, "state": "damaged", "error": str(exc)}
