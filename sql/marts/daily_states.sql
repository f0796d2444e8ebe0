-- daily_states.sql
-- Question:    How many sessions were in which state, night by night, and how much storage did they hold?
-- Grain:       one row per complete snapshot of a studio and state that it shows.
-- Reads:       streaming_session_changes, complete_snapshots.
-- Parameters:  none.
-- Columns:     snapshot_date: UTC date of the snapshot;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              state: state of the sessions;
--              sessions: how many there were;
--              volume_gib: their root volumes together [GiB];
--              volume_iops: the same [operations/s];
--              volume_throughput: the same [MiB/s].
-- Assumes:     Counts come from the change log, so they outlive the daily partitions.
with dates as (
    select slice_id, snapshot_date, account_id, region, parents['studioId'] as studio_id
    from complete_snapshots
    where dataset = 'streaming_sessions'
),

-- Most changes of a date are alike: what was before is looked at once for all of them.
alike as (
    select
        slice_id,
        snapshot_date,
        change,
        state,
        volume_configuration_size as gib,
        volume_configuration_iops as iops,
        volume_configuration_throughput as throughput,
        list_contains(changed_columns, 'state') as is_moved,
        case when is_moved then old_values['state'] end as old_state,
        case
            when list_contains(changed_columns, 'volume_configuration_size')
                or list_contains(changed_columns, 'volume_configuration_iops')
                or list_contains(changed_columns, 'volume_configuration_throughput')
                then old_values
        end as old_volume,
        count(*) as sessions
    from streaming_session_changes
    group by all
),

moves as (
    select slice_id, snapshot_date, sessions, state, gib, iops, throughput
    from alike
    where change <> 'vanished'
    union all
    select
        slice_id,
        snapshot_date,
        -sessions as sessions,
        if(is_moved, old_state ->> '$', state) as state,
        if(
            map_contains(old_volume, 'volume_configuration_size'),
            (old_volume['volume_configuration_size'] ->> '$')::integer,
            gib
        ) as gib,
        if(
            map_contains(old_volume, 'volume_configuration_iops'),
            (old_volume['volume_configuration_iops'] ->> '$')::integer,
            iops
        ) as iops,
        if(
            map_contains(old_volume, 'volume_configuration_throughput'),
            (old_volume['volume_configuration_throughput'] ->> '$')::integer,
            throughput
        ) as throughput
    from alike
    where change <> 'appeared'
),

nets as (
    select
        slice_id,
        state,
        snapshot_date,
        sum(moves.sessions) as sessions,
        sum(moves.sessions * coalesce(gib, 0)) as gib,
        sum(moves.sessions * coalesce(iops, 0)) as iops,
        sum(moves.sessions * coalesce(throughput, 0)) as throughput
    from moves
    group by all
),

grid as (
    select dates.*, states.state
    from dates
    join (select distinct slice_id, state from nets) as states using (slice_id)
),

totals as (
    select
        snapshot_date,
        account_id,
        region,
        studio_id,
        state,
        sum(nets.sessions) over running as sessions,
        sum(gib) over running as volume_gib,
        sum(iops) over running as volume_iops,
        sum(throughput) over running as volume_throughput
    from grid
    left join nets using (slice_id, state, snapshot_date)
    window running as (partition by slice_id, state order by snapshot_date)
)

select
    snapshot_date,
    account_id,
    region,
    studio_id,
    state,
    sum(sessions)::bigint as sessions,
    sum(volume_gib)::bigint as volume_gib,
    sum(volume_iops)::bigint as volume_iops,
    sum(volume_throughput)::bigint as volume_throughput
from totals
where sessions > 0
group by all
