-- ending_sessions.sql
-- Question:    Which sessions stop or terminate next?
-- Grain:       one row per session and ending, the next first.
-- Reads:       ending_sessions (query).
-- Parameters:  $rows INTEGER, default 100.
-- Columns:     account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              owned_by: user who owns it;
--              ending: stop or terminate;
--              ends_at: when it is due;
--              total: how many there are, listed or not.
select account_id, region, studio_id, session_id, owned_by, ending, ends_at, count(*) over () as total
from ending_sessions
order by ends_at, account_id, region, studio_id, session_id, ending
limit $rows
