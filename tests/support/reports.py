"""Catalogs with the tables that the report reads, of any size and with any names."""

from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from etl.load.catalog.relations import add_files, add_macros
from etl.model import CATALOG_NAME
from etl.read.report.contents import SECTIONS

_RUNS = """
create table etl_runs as
select
    date '2026-11-20' - n::integer as snapshot_date, 'r' || n as run_id, snapshot_date::timestamptz as started_at,
    if(n = 0, 5, 0) as exit_code, 100 + n * 37 % 61 as seconds, n % 4 * 3 as retries, 1 + n % 5 // 4 as invocations
from range($nights) as nights (n) where n % 11 <> 7;
create table etl_slices as
select
    snapshot_date, run_id, 's' || studio as slice_id, 'streaming_sessions' as dataset,
    repeat('1', 11) || studio % $accounts as account_id, 'us-west-2' as region,
    map {'studioId': 's' || studio} as parents, if(n = 0 and studio % 2 = 1, 'failed', 'complete') as state,
    state = 'complete' as is_published, 1 + n % 6 // 5 as attempt, 1_000_000 + n * 1000 as records, 0 as rejects,
    if(state = 'failed', $name || ': ' || repeat('AccessDenied', 20), null) as error
from (select *, date_diff('day', snapshot_date, date '2026-11-20') as n from etl_runs), range($studios) as s (studio);
create table snapshots as select *, false as is_partial, false as is_filtered from etl_slices where is_published;
create table current_slices as from snapshots where snapshot_date = (select max(snapshot_date) from snapshots);
create table etl_checks as
select $name as check_name, 'warning' as severity, 1234567 as failures, repeat($name || ' ', 9) as meaning;
"""
_SESSIONS = """
create table studios as
select
    repeat('1', 11) || studio % $accounts as account_id, 'us-west-2' as region, 's' || studio as studio_id,
    if(studio = 0, $name, 'us-west-2-studio' || studio) as studio_name
from range($studios) as s (studio);
create table streaming_sessions as
select
    repeat('1', 11) || n % $studios % $accounts as account_id, 'us-west-2' as region,
    's' || n % $studios as studio_id, studio_id as slice_id, 'session-0123456789-' || n as session_id,
    case n % $owners when 0 then $name when 1 then null else md5(n % $owners || '') || 'ffffffff' end as owned_by,
    if(n % 3 = 0, 'STOPPED', if(n % 17 = 1, 'START_FAILED', 'READY')) as state,
    if(state = 'START_FAILED', $name, null) as status_code, status_code as status_message,
    (n % 7 + 1) * 500 as volume_configuration_size,
    'g4dn.16xlarge' as ec2_instance_type, date '2026-11-20' as snapshot_date,
    timestamptz '2026-11-20 02:00:00Z' as extracted_at,
    extracted_at - to_seconds(hash(session_id) % 400_000) as updated_at,
    if(state = 'STOPPED', extracted_at - to_days((hash(session_id) % 60)::integer), null) as stopped_at
from range($owners * 3) as s (n);
create table streaming_session_tags as
select slice_id, session_id, $name as key, $name as value from streaming_sessions where hash(session_id) % 2 = 0;
create table etl_rejects as
select snapshot_date, 'streaming_sessions' as dataset, $name || ' is no date' as reason from etl_runs;
create table failures as
select snapshot_date, account_id, region, slice_id as studio_id, 1 + hash(run_id, slice_id) % 5 as failures
from snapshots;
create table daily_states as
select snapshot_date, account_id, region, slice_id as studio_id, states.state,
    1000 + hash(run_id, slice_id) % 100 as sessions, sessions * 500 as volume_gib
from snapshots, (values ('READY'), ('STOPPED'), ('START_FAILED'), ('STOP_IN_PROGRESS'), ('UNKNOWN')) as states (state);
create table daily_hours as
select snapshots.snapshot_date as day, account_id, region, studio_id, owned_by,
    if(studio_id = 's0', $name, 'g5.' || studio_id) as ec2_instance_type,
    hash(run_id, session_id) % 20000 as running_hours
from snapshots join streaming_sessions using (account_id, region, slice_id);
create table daily_hours_by_tag as
select day, account_id, region, studio_id, $name as tag, $name as value, running_hours from daily_hours;
create table idle_times as
select *, hash(session_id) % 400_000 as idle_seconds, volume_configuration_size as volume_gib
from streaming_sessions where state = 'READY';
create table planned_ends as
select *, if(hash(session_id) % 2 = 1, 'stop', 'terminate') as ending,
    hash(session_id) % 600_000 as seconds_left,
    timestamptz '2026-11-21 02:00:00Z' as ends_at
from streaming_sessions;
create table storage_held as
select account_id, region, studio_id, owned_by, sum(volume_configuration_size) as volume_gib
from streaming_sessions group by all;
create table streaming_session_changes as
select snapshot_date, if(snapshot_date > date '2025-11-01', snapshot_date - 1, null) as previous_date, slice_id,
    account_id, region, slice_id as studio_id, unnest(['appeared', 'changed', 'changed', 'vanished']) as change
from snapshots;
create table volumes_changes as
select snapshot_date, snapshot_date - 1 as previous_date, 'v' as slice_id, 'changed' as change, null as volume_id,
    null as volume_name
from etl_runs union all
select snapshot_date, snapshot_date - 1, 'v', 'appeared', 'vol-' || run_id, $name from etl_runs;
create table volumes as select distinct on (volume_id) volume_id, slice_id from volumes_changes;
create table volume_tags as select slice_id, volume_id, $name as key, $name as value from volumes;
insert into snapshots by name
select snapshot_date, 'v' as slice_id, 'volumes' as dataset, repeat('1', 11) || '0' as account_id,
    'us-west-2' as region, 'complete' as state, 400 + hash(run_id) % 50 as records, 0 as rejects,
    false as is_partial, false as is_filtered, run_id
from etl_runs;
"""
_COSTS = """
create table daily_costs as
select day, account_id, region, studio_id, owned_by, unnest(['USD', 'EUR']) as currency,
    (running_hours * 0.5)::decimal(28, 8) as instance_cost, (running_hours * 0.1)::decimal(28, 8) as idle_cost,
    (running_hours * 0.2)::decimal(28, 8) as storage_cost, (running_hours * 0.7)::decimal(28, 8) as cost,
    0.5 as unpriced_hours
from daily_hours;
create table daily_costs_by_tag as select * exclude (owned_by), $name as tag, $name as value from daily_costs;
"""
_OWN = ("finished_snapshots", "complete_snapshots", "nights", "recent_hours", "studio_names")
"""Made from the tables above by the files of sql/."""


@dataclass(frozen=True)
class World:
    """What a catalog is about: `name` is that of an owner, a studio, an instance type and a check.

    The studios are spread over the accounts.
    """

    nights: int = 30
    studios: int = 2
    accounts: int = 1
    owners: int = 30
    name: str = "ann"


CHARTS = [chart for section in SECTIONS for chart in section.charts]
DRAWN = [chart.name for chart in CHARTS if not chart.per]
"""Charts of real nights without a table of prices."""
SHOWN = [
    *(
        name
        for chart in CHARTS
        for name in ([f"costs-{unit}" for unit in ("EUR", "USD")] if chart.per else [chart.name])
    )
]
SHOWN += ["volumes-records", "volumes-changes"]
"""Charts of the worlds below: money is in two currencies, and there is a dataset besides those of Nimble."""
TABLES = [table for section in SECTIONS for table in section.tables]
EVIL = (
    '<script>alert("x")</script><img src=x onerror=alert(1)>]]> $\\frac{1}{0}$ &amp; WWWWMMMM 中文工作室的名字'
    "\N{RIGHT-TO-LEFT OVERRIDE}live\x07\n\N{GRINNING FACE}" + "x" * 90
)
WORLDS = {
    "a month of evil names": World(owners=8, name=EVIL),
    "many of all": World(nights=400, studios=40, accounts=3, owners=80, name=EVIL),
    "plain names": World(),
    "one night": World(nights=1, studios=1, owners=1, name="<b>$\\frac{1}{0}$ 一&amp;</b>"),
}


def write_catalog(directory: Path, world: World, *, sessions: bool = True, costs: bool = True) -> None:
    """Write a configuration and a catalog, with tables of sessions, and of their costs, or without."""
    (directory / "warehouse").mkdir(parents=True)
    (directory / "config.yaml").write_text("source: {endpoint_url: embedded}\n")
    values = asdict(world)
    text = _RUNS + (_SESSIONS if sessions else "") + (_COSTS if sessions and costs else "")
    with duckdb.connect(directory / "warehouse" / CATALOG_NAME) as connection:
        connection.execute("set TimeZone = 'UTC'")
        for statement in text.split(";\n"):
            used = {name: value for name, value in values.items() if f"${name}" in statement}
            connection.execute(statement, used or None)
        add_macros(connection)
        add_files(connection, ("views", "marts"), _OWN)
