-- hours_by_studio.sql
-- Question:    How long did the workstations of each studio run, day by day?
-- Grain:       one row per UTC day and studio; the studios beyond $rows together.
-- Reads:       daily_hours, daily_states.
-- Parameters:  $days INTEGER, default 30; $rows INTEGER, default 5.
-- Columns:     day: UTC date;
--              studio_id: studio;
--              running_hours: time that its sessions ran on that day [hours].
-- Assumes:     The day of the newest snapshot is not over; days long before the first were hardly seen.
with nights as (
    select min(snapshot_date) - 1 as first_day, max(snapshot_date) as last_day
    from daily_states
),

hours as (
    select day, studio_id, sum(running_hours) as running_hours
    from daily_hours
    join nights on day >= greatest(first_day, last_day - $days) and day < last_day
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
    if(place <= $rows, studio_id, 'others (' || studios - $rows || ')') as studio_id,
    sum(running_hours) as running_hours
from hours
join studios using (studio_id)
group by all
order by min(place) > $rows, studio_id, day
