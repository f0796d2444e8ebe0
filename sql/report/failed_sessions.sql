-- failed_sessions.sql
-- Question:    Which sessions have failed last, and why?
-- Grain:       one row per session, the newest failure first.
-- Reads:       failed_sessions (query).
-- Parameters:  $rows INTEGER, default 100.
-- Columns:     account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              owned_by: user who owns it;
--              state: CREATE_FAILED, START_FAILED, STOP_FAILED or DELETE_FAILED;
--              status_code: why, in the service's words;
--              updated_at: when;
--              total: how many there are, listed or not.
select account_id, region, studio_id, session_id, owned_by, state, status_code, updated_at, count(*) over () as total
from failed_sessions
order by updated_at desc, account_id, region, studio_id, session_id
limit $rows
