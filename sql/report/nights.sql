-- nights.sql
-- Question:    How did each of the last $nights nights go, and which faults did it survive?
-- Grain:       one row per snapshot date.
-- Reads:       etl_runs, etl_slices, snapshots, nights.
-- Parameters:  $nights INTEGER, default 30.
-- Columns:     snapshot_date: UTC date of the snapshot;
--              exit_code: of the last run for that date: 0, or 5 where not all was well;
--              seconds: working time of all runs for that date [seconds];
--              records: records in what they published;
--              rejects: of these, records that did not fit their types;
--              retries: requests that were repeated;
--              restarts: walks that began again because a page token had expired;
--              resumptions: times that a later invocation went on with a run;
--              failed_slices: walks that a source error ended.
with runs as (
    select
        snapshot_date,
        arg_max(exit_code, started_at) as exit_code,
        sum(seconds) as seconds,
        sum(retries)::bigint as retries,
        sum(invocations - 1)::bigint as resumptions
    from etl_runs
    group by snapshot_date
),

walks as (
    select
        snapshot_date,
        sum(attempt - 1)::bigint as restarts,
        count(*) filter (where state = 'failed') as failed_slices
    from etl_slices
    group by snapshot_date
),

published as (
    select snapshot_date, sum(records)::bigint as records, sum(rejects)::bigint as rejects
    from snapshots
    group by snapshot_date
)

select
    snapshot_date,
    exit_code,
    seconds,
    coalesce(records, 0) as records,
    coalesce(rejects, 0) as rejects,
    retries,
    coalesce(restarts, 0) as restarts,
    resumptions,
    coalesce(failed_slices, 0) as failed_slices
from runs
join nights using (snapshot_date)
left join walks using (snapshot_date)
left join published using (snapshot_date)
where nights_ago < $nights
order by snapshot_date
