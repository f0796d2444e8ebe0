-- idle_times.sql
-- Question:    For how long has nothing happened to the sessions that run?
-- Grain:       one row per session that the newest complete snapshot shows in state READY.
-- Reads:       streaming_sessions.
-- Parameters:  none.
-- Columns:     account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              owned_by: user who owns it;
--              ec2_instance_type: EC2 instance type;
--              started_at: when it was started;
--              updated_at: when something happened to it last;
--              idle_seconds: from updated_at until the page was received, or the snapshot date ended [seconds];
--              volume_gib: root volume, null without one [GiB].
-- Assumes:     The service says when a session was updated, not whether somebody works on it.
select
    account_id,
    region,
    studio_id,
    session_id,
    owned_by,
    ec2_instance_type,
    started_at,
    updated_at,
    epoch_us(seen_at(extracted_at, snapshot_date) - updated_at) / 1e6 as idle_seconds,
    volume_configuration_size as volume_gib
from streaming_sessions
where state = 'READY'
