-- daily_states.sql
-- Question:    How many sessions were in which state, night by night, and how much storage did they hold?
-- Grain:       one row per complete snapshot of a studio and state that it shows.
-- Reads:       streaming_sessions_versions, snapshots.
-- Parameters:  none.
-- Columns:     snapshot_date: UTC date of the snapshot;
--              studio_id: studio;
--              state: state of the sessions;
--              sessions: how many there were;
--              volume_gib: their root volumes together [GiB];
--              volume_iops: the same [operations/s];
--              volume_throughput: the same [MiB/s].
-- Assumes:     Counts come from the change log, so they outlive the daily partitions.
with dates as (
    select slice_id, snapshot_date, parents['studioId'] as studio_id
    from snapshots
    where dataset = 'streaming_sessions' and state = 'complete' and not is_partial and not is_filtered
),

moves as (
    select slice_id, state, unnest([valid_from, valid_to]) as snapshot_date, unnest([1, -1]) as sign,
        coalesce(volume_configuration_size, 0) as gib,
        coalesce(volume_configuration_iops, 0) as iops,
        coalesce(volume_configuration_throughput, 0) as throughput
    from streaming_sessions_versions
),

nets as (
    select
        slice_id,
        state,
        snapshot_date,
        sum(sign) as sessions,
        sum(sign * gib) as gib,
        sum(sign * iops) as iops,
        sum(sign * throughput) as throughput
    from moves
    group by all
),

grid as (
    select dates.slice_id, dates.studio_id, dates.snapshot_date, states.state
    from dates
    join (select distinct slice_id, state from nets) as states using (slice_id)
),

totals as (
    select
        snapshot_date,
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
    studio_id,
    state,
    sum(sessions)::bigint as sessions,
    sum(volume_gib)::bigint as volume_gib,
    sum(volume_iops)::bigint as volume_iops,
    sum(volume_throughput)::bigint as volume_throughput
from totals
where sessions > 0
group by all
