-- changes_last_night.sql
-- Question:    What appeared, changed and vanished last night, studio by studio?
-- Grain:       one row per account, Region and studio with a complete snapshot of the newest night that has one, most
--              changes first.
-- Reads:       changes_by_night (query), complete_snapshots, nights.
-- Parameters:  $rows INTEGER, default 100.
-- Columns:     account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              appeared: sessions that the snapshot before did not show; a studio's first snapshot is left out;
--              changed: sessions that it showed otherwise;
--              vanished: sessions that only it showed;
--              total: how many studios there are, listed or not.
with studios as (
    select distinct snapshot_date, account_id, region, parents['studioId'] as studio_id
    from complete_snapshots
    join nights using (snapshot_date)
    where dataset = 'streaming_sessions' and complete_nights_ago = 0
)

select
    account_id,
    region,
    studio_id,
    coalesce(appeared, 0) as appeared,
    coalesce(changed, 0) as changed,
    coalesce(vanished, 0) as vanished,
    count(*) over () as total
from studios
left join changes_by_night using (snapshot_date, account_id, region, studio_id)
order by appeared + changed + vanished desc, account_id, region, studio_id
limit $rows
