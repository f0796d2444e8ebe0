-- use_by_region.sql
-- Question:    How long did workstations run in each Region in the last $days days, and what do they hold?
-- Grain:       one row per Region, the longest first.
-- Reads:       streaming_sessions, recent_hours.
-- Parameters:  $days INTEGER, default 30; $rows INTEGER, default 100.
-- Columns:     region: AWS Region;
--              studios: studios with a session there;
--              sessions: sessions in their newest snapshots;
--              running_hours: time that sessions ran there [hours];
--              volume_gib: root volumes in the newest snapshots [GiB];
--              total: how many there are, listed or not.
with held as (
    select
        region,
        count(distinct (account_id, studio_id)) as studios,
        count(*) as sessions,
        sum(volume_configuration_size) as volume_gib
    from streaming_sessions
    group by region
),

hours as (
    select region, sum(running_hours) as running_hours
    from recent_hours
    where days_ago <= $days
    group by region
)

select
    region,
    coalesce(studios, 0) as studios,
    coalesce(sessions, 0) as sessions,
    round(coalesce(running_hours, 0), 1) as running_hours,
    coalesce(volume_gib, 0)::bigint as volume_gib,
    count(*) over () as total
from held
full outer join hours using (region)
order by running_hours desc, region
limit $rows
