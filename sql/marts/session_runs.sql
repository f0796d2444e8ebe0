-- session_runs.sql
-- Question:    When did each session run, from which start to which stop?
-- Grain:       one row per session and start that a complete snapshot has shown.
-- Reads:       streaming_sessions_versions.
-- Parameters:  none.
-- Columns:     slice_id: slice that lists the session;
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
-- Assumes:     A snapshot shows a session's last start and last stop. A start that another one has followed before the
--              next snapshot is not seen. A run whose stop no snapshot shows counts up to 00:00 UTC of the last
--              snapshot date that shows it running: the hours after that belong to the next night. A start that
--              failed is no run.
with runs as (
    select
        slice_id,
        any_value(studio_id) as studio_id,
        session_id,
        started_at,
        max(stopped_at) filter (where stopped_at >= started_at) as stopped_at,
        bool_or(is_current) as is_listed,
        max(seen_until)::timestamp at time zone 'UTC' as shown_until,
        arg_max_null(ec2_instance_type, valid_from) as ec2_instance_type,
        arg_max_null(owned_by, valid_from) as owned_by,
        arg_max_null(launch_profile_id, valid_from) as launch_profile_id,
        arg_max_null(tags, valid_from) as tags
    from streaming_sessions_versions
    where started_at is not null
    group by slice_id, session_id, started_at
    having not bool_or(state = 'START_FAILED')
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
