-- top_owners.sql
-- Question:    Whose workstations ran longest in the $days days before the newest snapshot?
-- Grain:       one row per owner, the longest first.
-- Reads:       recent_hours.
-- Parameters:  $days INTEGER, default 30; $rows INTEGER, default 10.
-- Columns:     owned_by: user who owns the sessions;
--              running_hours: time that they ran [hours].
select owned_by, sum(running_hours) as running_hours
from recent_hours
where days_ago <= $days
group by owned_by
order by running_hours desc, owned_by
limit $rows
