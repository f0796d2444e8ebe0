-- session_updates.sql
-- Question:    When did something happen to a running session, and until when do snapshots show nothing after it?
-- Grain:       one row per session, start, and last update that snapshots show of it in state READY.
-- Reads:       streaming_session_changes.
-- Parameters:  none.
-- Columns:     slice_id: slice that lists the session;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              started_at: start of the run;
--              updated_at: when something happened to the session last;
--              last_date: last snapshot date that shows it so before another change, null without one;
--              is_newest: whether the newest complete snapshot may show it so.
-- Assumes:     What idle_periods assumes, which is made of this.
-- Carried:     slice_id, session_id.
with shown as (
    select
        slice_id,
        account_id,
        region,
        studio_id,
        session_id,
        started_at,
        updated_at,
        change,
        state,
        lead(previous_date) over (partition by slice_id, session_id order by snapshot_date) as last_date
    from streaming_session_changes
)

select
    slice_id,
    any_value(account_id) as account_id,
    any_value(region) as region,
    any_value(studio_id) as studio_id,
    session_id,
    started_at,
    updated_at,
    max(last_date) as last_date,
    bool_or(last_date is null) as is_newest
from shown
where change <> 'vanished' and state = 'READY' and updated_at is not null
group by slice_id, session_id, started_at, updated_at
