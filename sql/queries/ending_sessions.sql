-- ending_sessions.sql
-- Question:    Which sessions stop or terminate within $hours hours after the studio was listed?
-- Grain:       one row per session and ending.
-- Reads:       streaming_sessions (current snapshot).
-- Parameters:  $hours INTEGER, default 24.
-- Columns:     minutes_left from the moment when the page was received; ending is stop or terminate.
with endings as (
    select studio_id, session_id, owned_by, state, extracted_at, 'stop' as ending, stop_at as ends_at
    from streaming_sessions
    where state = 'READY'
    union all
    select studio_id, session_id, owned_by, state, extracted_at, 'terminate' as ending, terminate_at as ends_at
    from streaming_sessions
)

select studio_id, session_id, owned_by, state, ending, ends_at, date_sub('minute', extracted_at, ends_at) as minutes_left
from endings
where ends_at >= extracted_at and ends_at < extracted_at + to_hours($hours)
order by ends_at, studio_id, session_id, ending
