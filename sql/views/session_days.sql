-- session_days.sql
-- Question:    How long did each session run on each day?
-- Grain:       one row per run of a session and UTC day that it touches.
-- Reads:       session_runs.
-- Parameters:  none.
-- Columns:     day: UTC date;
--              slice_id: slice that lists the session;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              started_at: start of the run, on this day or before;
--              running_seconds: time that the session ran on this day [seconds];
--              ec2_instance_type: instance type in that run;
--              owned_by: owner in that run;
--              launch_profile_id: launch profile in that run;
--              tags: tags in that run.
-- Assumes:     The service stops a session after 30 days at the latest (43,200 minutes). A run of more than 400 days has
--              a wrong start or stop, and is left out.
with spans as (
    select *, started_at at time zone 'UTC' as begins, ended_at at time zone 'UTC' as ends
    from session_runs
    where ended_at > started_at and ended_at < started_at + interval 400 day
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
    epoch_us(least(ends, (day + 1)::timestamp) - greatest(begins, day::timestamp)) / 1e6 as running_seconds,
    ec2_instance_type,
    owned_by,
    launch_profile_id,
    tags
from days
