-- session_lifetimes.sql
-- Question:    How long do sessions wait to start, run and live?
-- Grain:       one row per session that a complete snapshot has ever shown.
-- Reads:       session_starts, current_slices, session_runs.
-- Parameters:  none.
-- Columns:     slice_id: slice that lists the session;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              owned_by: as shown last;
--              ec2_instance_type: as shown last;
--              launch_profile_id: as shown last;
--              created_at: when it was created;
--              first_started_at: its first start; null where it never started, or was older when first shown;
--              wait_seconds: from its creation to its first start, null with that [seconds];
--              first_seen: first snapshot date that shows it;
--              last_seen: last snapshot date that shows it;
--              is_listed: whether the newest complete snapshot shows it;
--              life_seconds: from created_at to 00:00 UTC of last_seen [seconds];
--              runs: starts that snapshots have shown, failed ones left out;
--              running_seconds: time of those runs together [seconds].
-- Assumes:     What session_runs assumes. The first start is known of sessions of which a snapshot has shown one on the
--              day after their creation at the latest.
with spans as (
    select
        slice_id,
        session_id,
        min(created_at) as created_at,
        min(started_at) as first_started_at,
        min(first_date) as first_seen,
        min(first_date) filter (where started_at is not null)
            <= (min(created_at) at time zone 'UTC')::date + 1 as is_first_start_known,
        max(last_date) as last_date
    from session_starts
    group by slice_id, session_id
),

sessions as (
    select
        spans.*,
        last.account_id,
        last.region,
        last.studio_id,
        last.owned_by,
        last.ec2_instance_type,
        last.launch_profile_id,
        last.last_change <> 'vanished' as is_listed,
        last.previous_date
    from spans
    join session_starts as last using (slice_id, session_id, last_date)
),

seen as (
    select sessions.*, if(is_listed, current_slices.snapshot_date, previous_date) as last_seen
    from sessions
    left join current_slices using (slice_id)
),

runs as (
    select slice_id, session_id, count(*) as runs, sum(running_seconds) as running_seconds
    from session_runs
    group by slice_id, session_id
)

select
    slice_id,
    account_id,
    region,
    studio_id,
    session_id,
    owned_by,
    ec2_instance_type,
    launch_profile_id,
    created_at,
    if(is_first_start_known, first_started_at, null) as first_started_at,
    epoch_us(if(is_first_start_known, first_started_at, null) - created_at) / 1e6 as wait_seconds,
    first_seen,
    last_seen,
    is_listed,
    epoch_us(greatest(created_at, last_seen::timestamp at time zone 'UTC') - created_at) / 1e6 as life_seconds,
    coalesce(runs, 0) as runs,
    coalesce(running_seconds, 0) as running_seconds
from seen
left join runs using (slice_id, session_id)
