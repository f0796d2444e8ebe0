-- sessions_by_instance_type.sql
-- Question:    Which instance types are in use, and how many of their sessions run?
-- Grain:       one row per studio and instance type.
-- Reads:       streaming_sessions (current snapshot).
-- Parameters:  none.
-- Columns:     running counts the sessions in state READY.
select
    studio_id,
    ec2_instance_type,
    count(*) as sessions,
    count(*) filter (where state = 'READY') as running
from streaming_sessions
group by all
order by sessions desc, studio_id, ec2_instance_type
