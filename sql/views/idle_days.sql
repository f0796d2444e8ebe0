-- idle_days.sql
-- Question:    How long did each session run on each day without anything happening to it?
-- Grain:       one row per row of idle_periods and UTC day that it touches.
-- Reads:       idle_periods.
-- Parameters:  none.
-- Columns:     day: UTC date;
--              slice_id: slice that lists the session;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              started_at: start of the run;
--              idle_from: when something happened to the session last, on this day or before;
--              idle_seconds: time without anything on this day [seconds];
--              idle_seconds_before: the same before this day, since idle_from [seconds];
--              ec2_instance_type: instance type in that run;
--              owned_by: owner in that run;
--              launch_profile_id: launch profile in that run.
-- Assumes:     What idle_periods assumes.
with spans as (
    select *, idle_from at time zone 'UTC' as begins, idle_until at time zone 'UTC' as ends
    from idle_periods
),

days as (
    select *, unnest(generate_series(begins::date, (ends - interval 1 microsecond)::date, interval 1 day))::date as day
    from spans
)

select
    day,
    slice_id,
    account_id,
    region,
    studio_id,
    session_id,
    started_at,
    idle_from,
    epoch_us(least(ends, (day + 1)::timestamp) - greatest(begins, day::timestamp)) / 1e6 as idle_seconds,
    epoch_us(greatest(begins, day::timestamp) - begins) / 1e6 as idle_seconds_before,
    ec2_instance_type,
    owned_by,
    launch_profile_id
from days
