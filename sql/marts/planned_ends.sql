-- planned_ends.sql
-- Question:    Which sessions are about to stop or to terminate, and when?
-- Grain:       one row per session and ending that the service has planned.
-- Reads:       streaming_sessions.
-- Parameters:  none.
-- Columns:     account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              owned_by: user who owns it;
--              state: state of the session;
--              ending: stop (of a running session) or terminate;
--              ends_at: when it is due;
--              seconds_left: from when the page was received, or the snapshot date ended, until ends_at; less than 0
--                            where overdue [seconds].
with endings as (
    select *, 'stop' as ending, stop_at as ends_at
    from streaming_sessions
    where state = 'READY'
    union all
    select *, 'terminate', terminate_at
    from streaming_sessions
)

select
    account_id,
    region,
    studio_id,
    session_id,
    owned_by,
    state,
    ending,
    ends_at,
    epoch_us(ends_at - seen_at(extracted_at, snapshot_date)) / 1e6 as seconds_left
from endings
where ends_at is not null
