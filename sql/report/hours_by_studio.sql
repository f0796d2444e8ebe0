-- hours_by_studio.sql
-- Question:    How long did the workstations of each studio run, day by day?
-- Grain:       one row per UTC day, account, Region and studio.
-- Reads:       recent_hours, largest_studios (query).
-- Parameters:  $days INTEGER, default 30.
-- Columns:     day: UTC date;
--              account_id: AWS account; null for the other studios together;
--              region: AWS Region; the same;
--              studio_id: studio, or `other studios`: those beyond $studios together;
--              running_hours: time that its sessions ran on that day [hours].
select
    day,
    largest.account_id,
    largest.region,
    coalesce(largest.studio_id, 'other studios') as studio_id,
    sum(running_hours) as running_hours
from recent_hours
left join largest_studios as largest using (account_id, region, studio_id)
where days_ago <= $days
group by all
order by day, account_id, region, studio_id
