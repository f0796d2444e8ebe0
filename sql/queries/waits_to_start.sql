-- waits_to_start.sql
-- Question:    How long do sessions wait from their creation to their first start?
-- Grain:       one row per account, Region, studio and instance type.
-- Reads:       session_lifetimes.
-- Parameters:  none.
-- Columns:     median_minutes and longest_minutes over the sessions that a snapshot has shown within a day of their
--              creation; of older ones nobody saw the first start.
select
    account_id,
    region,
    studio_id,
    ec2_instance_type,
    count(*) as sessions,
    round(median(wait_seconds) / 60, 1)::double as median_minutes,
    round(max(wait_seconds) / 60, 1)::double as longest_minutes
from session_lifetimes
where wait_seconds is not null
group by all
order by median_minutes desc, account_id, region, studio_id, ec2_instance_type
