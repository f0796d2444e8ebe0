-- hours_by_studio.sql
-- Question:    How long did the workstations of each studio run, day by day?
-- Grain:       one row per UTC day, account, Region and studio; the studios beyond $rows together.
-- Reads:       recent_hours.
-- Parameters:  $days INTEGER, default 30; $rows INTEGER, default 5.
-- Columns:     day: UTC date;
--              account_id: AWS account; null for studios together;
--              region: AWS Region; the same;
--              studio_id: studio;
--              running_hours: time that its sessions ran on that day [hours].
with hours as (
    select day, account_id, region, studio_id, sum(running_hours) as running_hours
    from recent_hours
    where days_ago <= $days
    group by day, account_id, region, studio_id
),

studios as (
    select
        account_id,
        region,
        studio_id,
        row_number() over (order by sum(running_hours) desc, account_id, region, studio_id) as place,
        count(*) over () as studios
    from hours
    group by account_id, region, studio_id
)

select
    day,
    if(place <= $rows, account_id, null) as account_id,
    if(place <= $rows, region, null) as region,
    first_or_others(studio_id, place, studios, $rows) as studio_id,
    sum(running_hours) as running_hours
from hours
join studios using (account_id, region, studio_id)
group by all
order by min(place) > $rows, account_id, region, studio_id, day
