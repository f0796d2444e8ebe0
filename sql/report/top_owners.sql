-- top_owners.sql
-- Question:    Whose workstations ran longest in the $days days before the newest snapshot, and in which studio?
-- Grain:       one row per owner, the longest first, account, Region and studio; the owners beyond $rows are left out.
-- Reads:       recent_hours, largest_studios (query).
-- Parameters:  $days INTEGER, default 30; $rows INTEGER, default 100.
-- Columns:     owned_by: user who owns the sessions;
--              account_id: AWS account; null for the other studios together;
--              region: AWS Region; the same;
--              studio_id: studio, or `other studios`: those beyond $studios together;
--              running_hours: time that they ran [hours].
with owners as (
    select owned_by, sum(running_hours) as all_hours
    from recent_hours
    where days_ago <= $days
    group by owned_by
    order by all_hours desc, owned_by
    limit $rows
)

select
    hours.owned_by,
    largest.account_id,
    largest.region,
    coalesce(largest.studio_id, 'other studios') as studio_id,
    sum(running_hours) as running_hours
from owners
join recent_hours as hours on owners.owned_by is not distinct from hours.owned_by
left join largest_studios as largest using (account_id, region, studio_id)
where days_ago <= $days
group by all
order by max(all_hours) desc, owned_by, account_id, region, studio_id
