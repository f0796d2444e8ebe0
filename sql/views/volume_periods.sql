-- volume_periods.sql
-- Question:    Which session had a volume from when until when, and how large was it?
-- Grain:       one row per session and version of it that has a root volume.
-- Reads:       streaming_session_changes, current_slices.
-- Parameters:  none.
-- Columns:     first_day: first UTC day of the version;
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
with versions as (
    select
        *,
        case lead(change) over sessions
            when 'vanished' then lead(previous_date) over sessions
            else lead(snapshot_date) over sessions - 1
        end as last_day
    from streaming_session_changes
    window sessions as (partition by slice_id, session_id order by snapshot_date)
)

select
    versions.snapshot_date as first_day,
    coalesce(versions.last_day, current_slices.snapshot_date) as last_day,
    versions.slice_id,
    versions.account_id,
    versions.region,
    versions.studio_id,
    versions.session_id,
    versions.ec2_instance_type,
    versions.owned_by,
    versions.launch_profile_id,
    versions.tags,
    versions.volume_configuration_size as volume_gib,
    versions.volume_configuration_iops as volume_iops,
    versions.volume_configuration_throughput as volume_throughput
from versions
left join current_slices on current_slices.slice_id = versions.slice_id
where versions.change <> 'vanished' and versions.volume_configuration_size is not null
