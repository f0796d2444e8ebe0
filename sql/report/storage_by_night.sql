-- storage_by_night.sql
-- Question:    How much storage did the sessions of each studio hold in the last $nights nights?
-- Grain:       one row per snapshot date, account, Region and studio; the studios beyond $rows together.
-- Reads:       daily_states, nights.
-- Parameters:  $nights INTEGER, default 90; $rows INTEGER, default 5.
-- Columns:     snapshot_date: UTC date of the snapshot;
--              account_id: AWS account; null for studios together;
--              region: AWS Region; the same;
--              studio_id: studio;
--              volume_tib: root volumes together [TiB].
with volumes as (
    select snapshot_date, account_id, region, studio_id, sum(volume_gib) / 1024 as volume_tib
    from daily_states
    join nights using (snapshot_date)
    where complete_nights_ago < $nights
    group by snapshot_date, account_id, region, studio_id
),

studios as (
    select
        account_id,
        region,
        studio_id,
        row_number() over (order by arg_max(volume_tib, snapshot_date) desc, account_id, region, studio_id) as place,
        count(*) over () as studios
    from volumes
    group by account_id, region, studio_id
)

select
    snapshot_date,
    if(place <= $rows, account_id, null) as account_id,
    if(place <= $rows, region, null) as region,
    first_or_others(studio_id, place, studios, $rows) as studio_id,
    sum(volume_tib) as volume_tib
from volumes
join studios using (account_id, region, studio_id)
group by all
order by min(place) > $rows, account_id, region, studio_id, snapshot_date
