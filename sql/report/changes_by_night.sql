-- changes_by_night.sql
-- Question:    How many sessions appeared, changed and vanished in each of the last $nights nights?
-- Grain:       one row per snapshot date with a complete snapshot of a studio.
-- Reads:       streaming_session_changes, nights.
-- Parameters:  $nights INTEGER, default 30.
-- Columns:     snapshot_date: UTC date of the snapshot;
--              appeared: sessions that the night before did not show; a studio's first snapshot is left out;
--              changed: sessions that the night before showed otherwise;
--              vanished: sessions that only the night before showed.
with changes as (
    select snapshot_date, change
    from streaming_session_changes
    where previous_date is not null
)

select
    snapshot_date,
    count(*) filter (where change = 'appeared') as appeared,
    count(*) filter (where change = 'changed') as changed,
    count(*) filter (where change = 'vanished') as vanished
from nights
left join changes using (snapshot_date)
where complete_nights_ago < $nights
group by snapshot_date
order by snapshot_date
