-- idle_periods.sql
-- Question:    From when until when did each session run without anything happening to it?
-- Grain:       one row per run of a session and last update that snapshots show of it in state READY.
-- Reads:       session_updates, current_slices, session_runs.
-- Parameters:  none.
-- Columns:     slice_id: slice that lists the session;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              started_at: start of the run;
--              idle_from: when something happened to the session last;
--              idle_until: until when snapshots show that nothing more has happened;
--              ec2_instance_type: instance type in that run;
--              owned_by: owner in that run;
--              launch_profile_id: launch profile in that run.
-- Assumes:     The service says when a session was updated, not whether somebody works on it: whoever works for hours on
--              a session that nothing happens to is taken for idle. A period ends at 00:00 UTC of the last snapshot date
--              that shows the session running and not updated since; the hours after that belong to the next night.
--              Runs of more than 400 days are left out, as in session_days.
with updates as (
    select
        updates.* exclude (last_date),
        greatest(last_date, if(is_newest, current_slices.snapshot_date, null))::timestamp at time zone 'UTC'
            as shown_until
    from session_updates as updates
    left join current_slices using (slice_id)
),

periods as (
    select
        runs.*,
        greatest(updates.updated_at, runs.started_at) as idle_from,
        least(updates.shown_until, runs.ended_at) as idle_until
    from updates
    join session_runs as runs using (slice_id, session_id, started_at)
    where runs.ended_at < runs.started_at + interval 400 day
)

select
    slice_id,
    account_id,
    region,
    studio_id,
    session_id,
    started_at,
    idle_from,
    idle_until,
    ec2_instance_type,
    owned_by,
    launch_profile_id
from periods
where idle_until > idle_from
