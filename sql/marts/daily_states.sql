-- daily_states.sql
-- Question:    How many sessions were in which state, night by night, and how much storage did they hold?
-- Grain:       one row per complete snapshot of a studio and state that it shows.
-- Reads:       daily_moves, complete_snapshots.
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

grid as (
    select dates.*, states.state
    from dates
    join (select distinct slice_id, state from daily_moves) as states using (slice_id)
),

totals as (
    select
        snapshot_date,
        grid.account_id,
        grid.region,
        grid.studio_id,
        state,
        sum(moves.sessions) over running as sessions,
        sum(moves.volume_gib) over running as volume_gib,
        sum(moves.volume_iops) over running as volume_iops,
        sum(moves.volume_throughput) over running as volume_throughput
    from grid
    left join daily_moves as moves using (slice_id, state, snapshot_date)
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
