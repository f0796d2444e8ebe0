-- ending_sessions.sql
-- Question:    Which sessions stop or terminate within $hours hours after the studio was listed?
-- Grain:       one row per session and ending.
-- Reads:       planned_ends.
-- Parameters:  $hours INTEGER, default 24, at least 0.
-- Columns:     minutes_left from the moment when the page was received, or the end of the snapshot date; ending is stop or terminate.
select
    account_id,
    region,
    studio_id,
    session_id,
    owned_by,
    state,
    ending,
    ends_at,
    floor(seconds_left / 60)::bigint as minutes_left
from planned_ends
where seconds_left >= 0 and seconds_left < $hours * 3600
order by ends_at, account_id, region, studio_id, session_id, ending
