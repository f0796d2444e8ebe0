-- stopped_sessions.sql
-- Question:    Which sessions have been stopped for $days days and still hold a volume?
-- Grain:       one row per session.
-- Reads:       streaming_sessions (current snapshot).
-- Parameters:  $days INTEGER, default 14, at least 0.
-- Columns:     days_stopped in complete days, up to the moment when the page was received, or the end of the
--              snapshot date; volume_gib in GiB.
with stopped as (
    select
        account_id,
        region,
        studio_id,
        session_id,
        owned_by,
        stopped_at,
        volume_configuration_size as volume_gib,
        date_sub('day', stopped_at, seen_at(extracted_at, snapshot_date)) as days_stopped
    from streaming_sessions
    where state = 'STOPPED' and volume_configuration_size is not null
)

select *
from stopped
where days_stopped >= $days
order by days_stopped desc, account_id, region, studio_id, session_id
