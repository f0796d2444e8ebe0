-- idle_sessions.sql
-- Question:    Which sessions run without having been updated for $hours hours when the studio was listed?
-- Grain:       one row per session.
-- Reads:       idle_times.
-- Parameters:  $hours INTEGER, default 12.
-- Columns:     idle_hours in complete hours, up to the moment when the page was received, or the end of the
--              snapshot date; volume_gib in GiB.
select
    studio_id,
    session_id,
    owned_by,
    ec2_instance_type,
    updated_at,
    volume_gib,
    floor(idle_seconds / 3600)::bigint as idle_hours
from idle_times
where idle_seconds / 3600 >= $hours
order by idle_hours desc, studio_id, session_id
