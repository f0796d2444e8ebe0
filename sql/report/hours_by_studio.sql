-- hours_by_studio.sql
-- Question:    How long did the workstations of each studio run, day by day?
-- Grain:       one row per UTC day and studio; the studios beyond $rows together.
-- Reads:       recent_hours.
-- Parameters:  $days INTEGER, default 30; $rows INTEGER, default 5.
-- Columns:     day: UTC date;
--              studio_id: studio;
--              running_hours: time that its sessions ran on that day [hours].
with hours as (
    select day, studio_id, sum(running_hours) as running_hours
    from recent_hours
    where days_ago <= $days
    group by day, studio_id
),

studios as (
    select
        studio_id,
        row_number() over (order by sum(running_hours) desc, studio_id) as place,
        count(*) over () as studios
    from hours
    group by studio_id
)

select
    day,
    first_or_others(studio_id, place, studios, $rows) as studio_id,
    sum(running_hours) as running_hours
from hours
join studios using (studio_id)
group by all
order by min(place) > $rows, studio_id, day
