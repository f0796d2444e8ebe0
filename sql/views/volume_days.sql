-- volume_days.sql
-- Question:    Which session had a volume on which day, and how large was it?
-- Grain:       one row per session and UTC day on which snapshots show it with a root volume.
-- Reads:       streaming_session_changes, current_slices.
-- Parameters:  none.
-- Columns:     day: UTC date;
--              slice_id: slice that lists the session;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              ec2_instance_type: EC2 instance type on that day;
--              owned_by: owner on that day;
--              launch_profile_id: launch profile on that day;
--              tags: tags on that day;
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
),

held as (
    select versions.*, coalesce(last_day, current_slices.snapshot_date) as until_day
    from versions
    left join current_slices on current_slices.slice_id = versions.slice_id
    where change <> 'vanished' and volume_configuration_size is not null
)

select
    unnest(generate_series(snapshot_date, until_day, interval 1 day))::date as day,
    slice_id,
    account_id,
    region,
    studio_id,
    session_id,
    ec2_instance_type,
    owned_by,
    launch_profile_id,
    tags,
    volume_configuration_size as volume_gib,
    volume_configuration_iops as volume_iops,
    volume_configuration_throughput as volume_throughput
from held
