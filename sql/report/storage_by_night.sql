-- storage_by_night.sql
-- Question:    How much storage did the sessions of each studio hold in the last $nights nights?
-- Grain:       one row per snapshot date, account, Region and studio.
-- Reads:       daily_states, nights, largest_studios (query).
-- Parameters:  $nights INTEGER, default 90.
-- Columns:     snapshot_date: UTC date of the snapshot;
--              account_id: AWS account; null for the other studios together;
--              region: AWS Region; the same;
--              studio_id: studio, or `other studios`: those beyond $studios together;
--              volume_tib: root volumes together [TiB].
select
    snapshot_date,
    largest.account_id,
    largest.region,
    coalesce(largest.studio_id, 'other studios') as studio_id,
    sum(daily_states.volume_gib) / 1024 as volume_tib
from daily_states
join nights using (snapshot_date)
left join largest_studios as largest using (account_id, region, studio_id)
where complete_nights_ago < $nights
group by all
order by snapshot_date, account_id, region, studio_id
