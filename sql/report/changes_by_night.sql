-- changes_by_night.sql
-- Question:    How many sessions appeared, changed and vanished in each of the last $nights nights, studio by studio?
-- Grain:       one row per snapshot date with a complete snapshot of a studio, account, Region and studio.
-- Reads:       changes_by_night (query), largest_studios (query), complete_snapshots, nights.
-- Parameters:  $nights INTEGER, default 30.
-- Columns:     snapshot_date: UTC date of the snapshot;
--              account_id: AWS account; null for the other studios together;
--              region: AWS Region; the same;
--              studio_id: studio, or `other studios`: those beyond $studios together;
--              appeared: sessions that the night before did not show; a studio's first snapshot is left out;
--              changed: sessions that the night before showed otherwise;
--              vanished: sessions that only the night before showed.
with studios as (
    select distinct snapshot_date, account_id, region, parents['studioId'] as studio_id
    from complete_snapshots
    join nights using (snapshot_date)
    where dataset = 'streaming_sessions' and complete_nights_ago < $nights
)

select
    snapshot_date,
    largest.account_id,
    largest.region,
    coalesce(largest.studio_id, 'other studios') as studio_id,
    coalesce(sum(appeared), 0)::bigint as appeared,
    coalesce(sum(changed), 0)::bigint as changed,
    coalesce(sum(vanished), 0)::bigint as vanished
from studios
left join changes_by_night using (snapshot_date, account_id, region, studio_id)
left join largest_studios as largest using (account_id, region, studio_id)
group by all
order by snapshot_date, account_id, region, studio_id
