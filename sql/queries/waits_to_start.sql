-- waits_to_start.sql
-- Question:    How long do sessions wait from their creation to their first start?
-- Grain:       one row per studio and instance type.
-- Reads:       streaming_sessions_versions.
-- Parameters:  none.
-- Columns:     median_minutes and longest_minutes over the sessions that a snapshot has shown within a day of their
--              creation; of older ones nobody saw the first start.
with first_starts as (
    select
        slice_id,
        any_value(studio_id) as studio_id,
        session_id,
        any_value(ec2_instance_type) as ec2_instance_type,
        date_sub('second', min(created_at), min(started_at)) / 60.0 as minutes
    from streaming_sessions_versions
    group by slice_id, session_id
    having min(started_at) is not null and min(valid_from) <= (min(created_at) at time zone 'UTC')::date + 1
)

select
    studio_id,
    ec2_instance_type,
    count(*) as sessions,
    round(median(minutes), 1)::double as median_minutes,
    round(max(minutes), 1)::double as longest_minutes
from first_starts
group by all
order by median_minutes desc, studio_id, ec2_instance_type
