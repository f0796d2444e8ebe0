-- nights.sql
-- Question:    How did the last $nights nights go, studio by studio?
-- Grain:       one row per published snapshot of a studio.
-- Reads:       snapshots.
-- Parameters:  $nights INTEGER, default 14.
-- Columns:     walk_seconds is the observation window: from the first page to the last, in seconds.
with nights as (
    select *
    from snapshots
    where dataset = 'streaming_sessions'
)

select
    snapshot_date,
    parents['studioId'] as studio_id,
    pages,
    records,
    rows,
    rejects,
    duplicates,
    date_diff('second', observed_from, observed_until) as walk_seconds
from nights
where snapshot_date > (select max(snapshot_date) from nights) - $nights
order by snapshot_date desc, studio_id
