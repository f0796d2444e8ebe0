-- session_volumes.sql
-- Question:    Which session had which volume, type, owner and tags, from when until when?
-- Grain:       one row per session and period in which these are the same and it has a root volume.
-- Reads:       streaming_session_changes.
-- Parameters:  none.
-- Columns:     first_day: first snapshot date of the period;
--              last_day: its last UTC day; null if the newest complete snapshot shows it;
--              slice_id: slice that lists the session;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              ec2_instance_type: its type in that time;
--              owned_by: its owner in that time;
--              launch_profile_id: its launch profile in that time;
--              tags: its tags in that time;
--              volume_gib: size of its root volume [GiB];
--              volume_iops: operations/s that the volume is provisioned for [operations/s];
--              volume_throughput: throughput that it is provisioned for [MiB/s].
-- Assumes:     What volume_periods assumes, which shows this.
-- Carried:     slice_id, session_id.
with shown as (
    select
        slice_id,
        account_id,
        region,
        studio_id,
        session_id,
        snapshot_date,
        previous_date,
        change = 'vanished' as is_gone,
        ec2_instance_type,
        owned_by,
        launch_profile_id,
        tags,
        volume_configuration_size as volume_gib,
        volume_configuration_iops as volume_iops,
        volume_configuration_throughput as volume_throughput,
        row(
            is_gone, ec2_instance_type, owned_by, launch_profile_id, tags, volume_gib, volume_iops, volume_throughput
        ) as same,
        lag(same) over (partition by slice_id, session_id order by snapshot_date) is distinct from same as begins
    from streaming_session_changes
),

periods as (
    select
        *,
        if(lead(is_gone) over sessions, lead(previous_date) over sessions, lead(snapshot_date) over sessions - 1)
            as last_day
    from shown
    where begins
    window sessions as (partition by slice_id, session_id order by snapshot_date)
)

select
    snapshot_date as first_day,
    last_day,
    slice_id,
    account_id,
    region,
    studio_id,
    session_id,
    ec2_instance_type,
    owned_by,
    launch_profile_id,
    tags,
    volume_gib,
    volume_iops,
    volume_throughput
from periods
where not is_gone and volume_gib is not null
