-- idle_sessions.sql
-- Question:    Which sessions have been idle longest?
-- Grain:       one row per session, the longest first.
-- Reads:       idle_sessions (query).
-- Parameters:  $rows INTEGER, default 100.
-- Columns:     account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              owned_by: user who owns it;
--              ec2_instance_type: EC2 instance type;
--              idle_hours: complete hours since its last update, when the studio was listed [hours];
--              total: how many there are, listed or not.
select account_id, region, studio_id, session_id, owned_by, ec2_instance_type, idle_hours, count(*) over () as total
from idle_sessions
order by idle_hours desc, account_id, region, studio_id, session_id
limit $rows
