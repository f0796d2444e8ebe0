-- planned_ends.sql
-- Question:    How many sessions are about to stop or to terminate within $days days, day by day?
-- Grain:       one row per day ahead; the first is the 24 hours after a studio was listed.
-- Reads:       planned_ends.
-- Parameters:  $days INTEGER, default 7.
-- Columns:     ahead: when, in words;
--              stopping: running sessions that stop then;
--              terminating: sessions that terminate then.
with days as (
    select day, if(day = 0, 'within 24 hours', 'in ' || day || ' to ' || day + 1 || ' days') as ahead
    from range($days) as days (day)
),

ends as (
    select ending, floor(seconds_left / 86400) as day
    from planned_ends
)

select
    ahead,
    count(*) filter (where ending = 'stop') as stopping,
    count(*) filter (where ending = 'terminate') as terminating
from days
left join ends using (day)
group by day, ahead
order by day
