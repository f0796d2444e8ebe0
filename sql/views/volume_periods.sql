-- volume_periods.sql
-- Question:    Which session had a volume from when until when, and how large was it?
-- Grain:       one row per session and period in which its volume, type, owner and tags are the same.
-- Reads:       session_volumes, current_slices.
-- Parameters:  none.
-- Columns:     first_day: first UTC day of the period;
--              last_day: last UTC day of it;
--              slice_id: slice that lists the session;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              ec2_instance_type: EC2 instance type on these days;
--              owned_by: owner on these days;
--              launch_profile_id: launch profile on these days;
--              tags: tags on these days;
--              volume_gib: its root volume [GiB];
--              volume_iops: the same [operations/s];
--              volume_throughput: the same [MiB/s].
-- Assumes:     A volume is there in every state of its session, also while that is stopped, and on the whole day of a
--              snapshot that shows it. A day without a complete snapshot is as the snapshot before it, if a later
--              snapshot shows the session too. Where the session has vanished by then, its volume counts up to the last
--              snapshot that shows it. Days before the first snapshot of a session do not count.
select
    volumes.first_day,
    coalesce(volumes.last_day, current_slices.snapshot_date) as last_day,
    volumes.* exclude (first_day, last_day)
from session_volumes as volumes
left join current_slices using (slice_id)
