-- idle_sessions.sql
-- Question:    Which running sessions has nothing happened to for $hours hours?
-- Grain:       one row per session, the longest first.
-- Reads:       idle_times.
-- Parameters:  $hours INTEGER, default 12; $rows INTEGER, default 15.
-- Columns:     studio_id: studio;
--              session_id: session;
--              owned_by: user who owns it;
--              ec2_instance_type: EC2 instance type;
--              idle_hours: complete hours since its last update, when the studio was listed [hours];
--              total: how many there are, listed or not.
select
    studio_id,
    session_id,
    owned_by,
    ec2_instance_type,
    floor(idle_seconds / 3600)::bigint as idle_hours,
    count(*) over () as total
from idle_times
where idle_seconds >= 3600 * $hours
order by idle_seconds desc, studio_id, session_id
limit $rows
