-- daily_moves.sql
-- Question:    By how many sessions, and how much storage, did each state grow or shrink, night by night?
-- Grain:       one row per snapshot date, slice and state with a change.
-- Reads:       streaming_session_changes.
-- Parameters:  none.
-- Columns:     snapshot_date: UTC date of the snapshot;
--              slice_id: slice that lists the sessions;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              state: state of the sessions;
--              sessions: how many more there are than in the snapshot before;
--              volume_gib: the same of their root volumes [GiB];
--              volume_iops: the same [operations/s];
--              volume_throughput: the same [MiB/s].
-- Assumes:     daily_states is the running sum of this.
-- Carried:     slice_id, snapshot_date.
with alike as (
    -- Most changes of a date are alike: what was before is looked at once for all of them.
    select
        slice_id,
        account_id,
        region,
        studio_id,
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
    select slice_id, account_id, region, studio_id, snapshot_date, sessions, state, gib, iops, throughput
    from alike
    where change <> 'vanished'
    union all
    select
        slice_id,
        account_id,
        region,
        studio_id,
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
)

select
    snapshot_date,
    slice_id,
    account_id,
    region,
    studio_id,
    state,
    sum(moves.sessions)::bigint as sessions,
    sum(moves.sessions * coalesce(gib, 0))::bigint as volume_gib,
    sum(moves.sessions * coalesce(iops, 0))::bigint as volume_iops,
    sum(moves.sessions * coalesce(throughput, 0))::bigint as volume_throughput
from moves
group by all
