-- volume_days.sql
-- Question:    Which session had a volume on which day, and how large was it?
-- Grain:       one row per session and UTC day on which snapshots show it with a root volume.
-- Reads:       volume_periods.
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
-- Assumes:     What volume_periods assumes. Ask for some days: all of a long history are millions of rows.
with calendar as (
    select unnest(generate_series(min(first_day), max(last_day), interval 1 day))::date as day
    from volume_periods
)

select
    calendar.day,
    volumes.slice_id,
    volumes.account_id,
    volumes.region,
    volumes.studio_id,
    volumes.session_id,
    volumes.ec2_instance_type,
    volumes.owned_by,
    volumes.launch_profile_id,
    volumes.tags,
    volumes.volume_gib,
    volumes.volume_iops,
    volumes.volume_throughput
from volume_periods as volumes
join calendar on calendar.day between volumes.first_day and volumes.last_day
