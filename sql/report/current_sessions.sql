-- current_sessions.sql
-- Question:    How many sessions are there now, and what do they hold?
-- Grain:       one row.
-- Reads:       streaming_sessions.
-- Parameters:  none.
-- Columns:     sessions: sessions that the newest complete snapshots show;
--              running: of these, those in state READY;
--              owners: users who own one;
--              volume_gib: root volumes together [GiB].
select
    count(*) as sessions,
    count(*) filter (where state = 'READY') as running,
    count(distinct owned_by) as owners,
    coalesce(sum(volume_configuration_size), 0)::bigint as volume_gib
from streaming_sessions
