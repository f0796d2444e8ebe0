-- sessions_by_instance_type.sql
-- Question:    Which instance types are in use, and how many of their sessions run?
-- Grain:       one row per account, Region, studio and instance type.
-- Reads:       streaming_sessions (current snapshot).
-- Parameters:  none.
-- Columns:     running counts the sessions in state READY.
select
    account_id,
    region,
    studio_id,
    ec2_instance_type,
    count(*) as sessions,
    count(*) filter (where state = 'READY') as running
from streaming_sessions
group by all
order by sessions desc, account_id, region, studio_id, ec2_instance_type
