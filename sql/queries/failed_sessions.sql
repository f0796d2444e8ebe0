-- failed_sessions.sql
-- Question:    Which sessions have failed, and why?
-- Grain:       one row per session.
-- Reads:       streaming_sessions (current snapshot).
-- Parameters:  none.
-- Columns:     state, status_code and status_message are the service's own words.
select
    account_id,
    region,
    studio_id,
    session_id,
    owned_by,
    ec2_instance_type,
    state,
    status_code,
    status_message,
    updated_at
from streaming_sessions
where state like '%FAILED'
order by updated_at desc, account_id, region, studio_id, session_id
