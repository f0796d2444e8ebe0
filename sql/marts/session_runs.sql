-- session_runs.sql
-- Question:    When did each session run, from which start to which stop?
-- Grain:       one row per session and start that a complete snapshot has shown.
-- Reads:       session_starts, current_slices.
-- Parameters:  none.
-- Columns:     slice_id: slice that lists the session;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              started_at: when it was started;
--              ended_at: when it stopped, or until when its running is counted;
--              ending: stopped (the service said so), running (the newest snapshot shows it running) or unseen;
--              running_seconds: from started_at to ended_at [seconds];
--              ec2_instance_type: as a snapshot of this run showed it last;
--              owned_by: the same;
--              launch_profile_id: the same;
--              tags: the same.
-- Assumes:     A run is the time from one start of a session to its stop. The invariant: every hour that is counted
--              follows from what a snapshot shows. Snapshots are a day apart, and each shows only the last start and
--              the last stop of a session. A run ends with its own stop if a snapshot shows that, otherwise with the
--              earlier stop that the next start still shows. If no snapshot shows its stop, the run counts up to 00:00
--              UTC of the last snapshot date that shows the session neither stopped nor deleted; the hours after that
--              belong to the next night. Without that limit, a session that was deleted while it ran would run for
--              ever. If the stop of the next run were taken instead, the pause would count as running, and the next
--              run twice. If a session starts twice between two snapshots, the first of these runs is not seen, and
--              its stop is taken for that of the run before. A start that failed is no run. A start never comes back
--              after a later one.
with runs as (
    select
        starts.* exclude (last_seen),
        starts.last_seen is null as is_listed,
        coalesce(starts.last_seen, current_slices.snapshot_date)::timestamp at time zone 'UTC' as shown_until
    from session_starts as starts
    left join current_slices using (slice_id)
    where starts.started_at is not null and not starts.has_failed
),

ended as (
    select
        *,
        coalesce(stopped_at, greatest(started_at, shown_until)) as ended_at,
        case when stopped_at is not null then 'stopped' when is_listed then 'running' else 'unseen' end as ending
    from runs
)

select
    slice_id,
    account_id,
    region,
    studio_id,
    session_id,
    started_at,
    ended_at,
    ending,
    epoch_us(ended_at - started_at) / 1e6 as running_seconds,
    ec2_instance_type,
    owned_by,
    launch_profile_id,
    tags
from ended
