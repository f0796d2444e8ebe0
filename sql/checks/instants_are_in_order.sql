-- instants_are_in_order.sql
-- Meaning:     Nothing happens to a session before it was created, and no end is planned before what it ends.
-- Severity:    warning.
-- Grain:       one row per session whose instants contradict each other.
-- Reads:       streaming_sessions.
-- Columns:     account_id: account; region: Region; studio_id: studio; session_id: session; created_at: created;
--              started_at: started; stopped_at: stopped; updated_at: updated; stop_at: planned stop; terminate_at:
--              planned termination.
select account_id, region, studio_id, session_id, created_at, started_at, stopped_at, updated_at, stop_at, terminate_at
from streaming_sessions
where started_at < created_at
    or stopped_at < created_at
    or updated_at < created_at
    or stop_at < started_at
    or terminate_at < stopped_at
