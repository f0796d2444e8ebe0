-- use_by_owner.sql
-- Question:    How long did each owner's workstations run in the last $days days, and what do they hold?
-- Grain:       one row per owner, account, Region and studio, the longest first.
-- Reads:       storage_held, recent_hours.
-- Parameters:  $days INTEGER, default 30; $rows INTEGER, default 100.
-- Columns:     account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              owned_by: user who owns the sessions;
--              running_hours: time that they ran [hours];
--              volume_gib: their root volumes in the newest snapshot [GiB];
--              total: how many such rows there are, listed or not.
with facts as (
    select account_id, region, studio_id, owned_by, running_hours as hours, null as gib
    from recent_hours
    where days_ago <= $days
    union all
    select account_id, region, studio_id, owned_by, null as hours, volume_gib as gib
    from storage_held
)

select
    account_id,
    region,
    studio_id,
    owned_by,
    round(coalesce(sum(hours), 0), 1) as running_hours,
    coalesce(sum(gib), 0)::bigint as volume_gib,
    count(*) over () as total
from facts
group by account_id, region, studio_id, owned_by
order by running_hours desc, volume_gib desc, account_id, region, studio_id, owned_by
limit $rows
