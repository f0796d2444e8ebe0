-- session_starts.sql
-- Question:    What do snapshots show of each start of a session?
-- Grain:       one row per session and start; one more per session that was shown before it was started.
-- Reads:       streaming_session_changes.
-- Parameters:  none.
-- Columns:     slice_id: slice that lists the session;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              started_at: when it was started; null before it was;
--              stopped_at: when this run stopped, as far as snapshots show it;
--              has_failed: whether the start failed;
--              first_date: first snapshot date with a change that shows this start;
--              last_date: last such date;
--              last_seen: last snapshot date before this run was over; null if the newest complete snapshot may show it;
--              last_change: what the change of last_date says: appeared, changed or vanished;
--              previous_date: snapshot date before last_date;
--              created_at: when the session was created;
--              ec2_instance_type: as a snapshot of this run showed it last;
--              owned_by: the same;
--              launch_profile_id: the same;
--              tags: the same.
-- Assumes:     What session_runs assumes, which is made of this.
-- Carried:     slice_id, session_id.
with starts as (
    select
        slice_id,
        session_id,
        started_at,
        min(created_at) as created_at,
        max(stopped_at) filter (where stopped_at >= started_at) as own_stop,
        min(stopped_at) filter (where stopped_at < started_at) as stop_before,  -- stop of the run before this one
        bool_or(state = 'START_FAILED') as has_failed,
        min(snapshot_date) as first_date,
        arg_min_null(previous_date, snapshot_date) as date_before,  -- last date that shows the run before this one
        max(snapshot_date) as last_date,
        -- last date before the session was off; a session that is deleted while it runs has no stop
        min(coalesce(previous_date, date '0001-01-01')) filter (
            where change <> 'vanished' and state in ('STOPPED', 'DELETE_IN_PROGRESS', 'DELETED')
        ) as off_after,
        -- last date before the session vanished; null if it did not vanish, or came back
        arg_max_null(if(change = 'vanished', previous_date, null), snapshot_date) as vanished_after
    from streaming_session_changes
    group by slice_id, session_id, started_at
),

shown as (
    select
        *,
        coalesce(off_after, vanished_after, lead(date_before) over sessions) as last_seen,
        lead(stop_before) over sessions as next_stop
    from starts
    window sessions as (partition by slice_id, session_id order by first_date)
)

select
    shown.slice_id,
    last.account_id,
    last.region,
    last.studio_id,
    shown.session_id,
    shown.started_at,
    coalesce(shown.own_stop, if(shown.next_stop >= shown.started_at, shown.next_stop, null)) as stopped_at,
    shown.has_failed,
    shown.first_date,
    shown.last_date,
    shown.last_seen,
    last.change as last_change,
    last.previous_date,
    shown.created_at,
    last.ec2_instance_type,
    last.owned_by,
    last.launch_profile_id,
    last.tags
from shown
join streaming_session_changes as last
    on last.slice_id = shown.slice_id
    and last.session_id = shown.session_id
    and last.snapshot_date = shown.last_date
