-- nights.sql
-- Question:    How did each of the last $nights nights go, and which faults did it survive?
-- Grain:       one row per snapshot date.
-- Reads:       etl_runs, etl_slices, snapshots, nights.
-- Parameters:  $nights INTEGER, default 30.
-- Columns:     snapshot_date: UTC date of the snapshot;
--              exit_code: of the last run for that date: 0, or 5 where not all was well; of shards: 3 where one has not
--                         ended, 5 where they differ otherwise;
--              seconds: working time of all runs for that date [seconds];
--              records: records in what they published;
--              rejects: of these, records that did not fit their types;
--              retries: requests that were repeated;
--              restarts: walks that began again because a page token had expired;
--              resumptions: times that a later invocation went on with a run;
--              failed_slices: walks that a source error ended.
with told as (
    -- The catalog of a former version has no column shard: then it is the null of the outer table.
    select runs.*
    from (select null::varchar as shard) as lacking
    cross join lateral (select *, coalesce(shard, '') as part from etl_runs) as runs
),

parts as (
    select
        snapshot_date,
        split_part(part, '/', 2) as parts,
        arg_max(exit_code, started_at) as exit_code
    from told
    group by snapshot_date, part
    -- A night may be divided in another way when it is run again: the last way counts.
    qualify parts = first_value(parts) over (partition by snapshot_date order by max(started_at) desc)
),

endings as (
    select
        snapshot_date,
        case
            when min(exit_code) = max(exit_code) then max(exit_code)
            when bool_or(exit_code = 3) then 3
            else 5
        end as exit_code
    from parts
    group by snapshot_date
),

runs as (
    select
        snapshot_date,
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
join endings using (snapshot_date)
join nights using (snapshot_date)
left join walks using (snapshot_date)
left join published using (snapshot_date)
where nights_ago < $nights
order by snapshot_date
