-- planned_ends.sql
-- Question:    How many sessions are about to stop or to terminate within $days days, day by day?
-- Grain:       one row per day ahead, account, Region and studio; the first is the 24 hours after the listing.
-- Reads:       streaming_sessions, planned_ends, largest_studios (query).
-- Parameters:  $days INTEGER, default 7.
-- Columns:     ahead: when, in words;
--              account_id: AWS account; null for the other studios together;
--              region: AWS Region; the same;
--              studio_id: studio, or `other studios`: those beyond $studios together;
--              stopping: running sessions that stop then;
--              terminating: sessions that terminate then.
with days as (
    select day, if(day = 0, 'within 24 hours', 'in ' || day || ' to ' || day + 1 || ' days') as ahead
    from range($days) as days (day)
),

places as (
    select distinct account_id, region, studio_id
    from streaming_sessions
),

ends as (
    select account_id, region, studio_id, ending, floor(seconds_left / 86400) as day
    from planned_ends
)

select
    ahead,
    largest.account_id,
    largest.region,
    coalesce(largest.studio_id, 'other studios') as studio_id,
    count(*) filter (where ending = 'stop') as stopping,
    count(*) filter (where ending = 'terminate') as terminating
from days
cross join places
left join ends using (day, account_id, region, studio_id)
left join largest_studios as largest using (account_id, region, studio_id)
group by all
order by min(day), account_id, region, studio_id
