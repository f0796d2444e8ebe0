-- idle_sessions.sql
-- Question:    Which sessions run without having been updated for $hours hours when the studio was listed?
-- Grain:       one row per session.
-- Reads:       streaming_sessions (current snapshot).
-- Parameters:  $hours INTEGER, default 12, at least 0.
-- Columns:     idle_hours in complete hours, up to the moment when the page was received, or the end of the
--              snapshot date; volume_gib in GiB.
with running as (
    select
        account_id,
        region,
        studio_id,
        session_id,
        owned_by,
        ec2_instance_type,
        updated_at,
        volume_configuration_size as volume_gib,
        date_sub('hour', updated_at, seen_at(extracted_at, snapshot_date)) as idle_hours
    from streaming_sessions
    where state = 'READY'
)

select *
from running
where idle_hours >= $hours
order by idle_hours desc, account_id, region, studio_id, session_id
