-- top_owners.sql
-- Question:    Whose workstations ran longest in the $days days before the newest snapshot?
-- Grain:       one row per owner, the longest first.
-- Reads:       daily_hours, daily_states.
-- Parameters:  $days INTEGER, default 30; $rows INTEGER, default 10.
-- Columns:     owned_by: user who owns the sessions;
--              running_hours: time that they ran [hours].
-- Assumes:     The day of the newest snapshot is not over; days long before the first were hardly seen.
with nights as (
    select min(snapshot_date) - 1 as first_day, max(snapshot_date) as last_day
    from daily_states
)

select owned_by, sum(running_hours) as running_hours
from daily_hours
join nights on day >= greatest(first_day, last_day - $days) and day < last_day
group by owned_by
order by running_hours desc, owned_by
limit $rows
