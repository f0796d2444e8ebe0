-- changes_by_night.sql
-- Question:    What appeared, changed and vanished in the last $nights nights?
-- Grain:       one row per snapshot date, account, Region and studio.
-- Reads:       streaming_session_changes, nights.
-- Parameters:  $nights INTEGER, default 14, at least 1.
-- Columns:     counts of sessions; a studio's first snapshot is left out.
select
    snapshot_date,
    account_id,
    region,
    studio_id,
    count(*) filter (where change = 'appeared') as appeared,
    count(*) filter (where change = 'changed') as changed,
    count(*) filter (where change = 'vanished') as vanished
from streaming_session_changes
join nights using (snapshot_date)
where previous_date is not null and complete_nights_ago < $nights
group by all
order by snapshot_date desc, account_id, region, studio_id
