-- changes_by_night.sql
-- Question:    How many sessions appeared, changed and vanished in each of the last $nights nights?
-- Grain:       one row per snapshot date with a complete snapshot of a studio.
-- Reads:       changes_by_night (query), nights.
-- Parameters:  $nights INTEGER, default 30.
-- Columns:     snapshot_date: UTC date of the snapshot;
--              appeared: sessions that the night before did not show; a studio's first snapshot is left out;
--              changed: sessions that the night before showed otherwise;
--              vanished: sessions that only the night before showed.
select
    snapshot_date,
    coalesce(sum(appeared), 0)::bigint as appeared,
    coalesce(sum(changed), 0)::bigint as changed,
    coalesce(sum(vanished), 0)::bigint as vanished
from nights
left join changes_by_night using (snapshot_date)
where complete_nights_ago < $nights
group by snapshot_date
order by snapshot_date
