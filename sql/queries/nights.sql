-- nights.sql
-- Question:    How did the last $nights nights go, studio by studio?
-- Grain:       one row per published snapshot of a studio.
-- Reads:       snapshots, nights.
-- Parameters:  $nights INTEGER, default 14, at least 1.
-- Columns:     walk_seconds is the observation window: from the first page to the last, in seconds.
select
    snapshot_date,
    account_id,
    region,
    parents['studioId'] as studio_id,
    pages,
    records,
    rows,
    rejects,
    duplicates,
    date_diff('second', observed_from, observed_until) as walk_seconds
from snapshots
join nights using (snapshot_date)
where dataset = 'streaming_sessions' and nights_ago < $nights
order by snapshot_date desc, account_id, region, studio_id
