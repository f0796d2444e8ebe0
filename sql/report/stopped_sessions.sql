-- stopped_sessions.sql
-- Question:    Which sessions have been stopped longest and still hold a volume?
-- Grain:       one row per session, the longest first.
-- Reads:       stopped_sessions (query).
-- Parameters:  $rows INTEGER, default 100.
-- Columns:     account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              owned_by: user who owns it;
--              days_stopped: complete days since its stop, when the studio was listed [days];
--              volume_gib: root volume [GiB];
--              total: how many there are, listed or not.
select account_id, region, studio_id, session_id, owned_by, days_stopped, volume_gib, count(*) over () as total
from stopped_sessions
order by days_stopped desc, account_id, region, studio_id, session_id
limit $rows
