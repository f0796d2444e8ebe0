-- use_by_studio.sql
-- Question:    How long did each studio's workstations run in the last $days days, and what do they hold?
-- Grain:       one row per account, Region and studio, the longest first.
-- Reads:       streaming_sessions, recent_hours.
-- Parameters:  $days INTEGER, default 30; $rows INTEGER, default 100.
-- Columns:     account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              sessions: sessions in its newest snapshot;
--              owners: users who own one of them;
--              running_hours: time that its sessions ran [hours];
--              volume_gib: root volumes in its newest snapshot [GiB];
--              total: how many there are, listed or not.
with held as (
    select
        account_id,
        region,
        studio_id,
        count(*) as sessions,
        count(distinct owned_by) as owners,
        sum(volume_configuration_size) as volume_gib
    from streaming_sessions
    group by account_id, region, studio_id
),

hours as (
    select account_id, region, studio_id, sum(running_hours) as running_hours
    from recent_hours
    where days_ago <= $days
    group by account_id, region, studio_id
)

select
    account_id,
    region,
    studio_id,
    coalesce(sessions, 0) as sessions,
    coalesce(owners, 0) as owners,
    round(coalesce(running_hours, 0), 1) as running_hours,
    coalesce(volume_gib, 0)::bigint as volume_gib,
    count(*) over () as total
from held
full outer join hours using (account_id, region, studio_id)
order by running_hours desc, account_id, region, studio_id
limit $rows
