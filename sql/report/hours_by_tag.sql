-- hours_by_tag.sql
-- Question:    How long did workstations with each tag run in the $days days before the newest snapshot?
-- Grain:       one row per tag, value, account, Region and studio, the longest first.
-- Reads:       daily_hours_by_tag, nights.
-- Parameters:  $days INTEGER, default 30; $rows INTEGER, default 100.
-- Columns:     account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              tag: key of the tag;
--              value: its value;
--              running_hours: time that sessions with it ran [hours];
--              total: how many such rows there are, listed or not.
-- Assumes:     A session with several tags counts with each of them.
with span as (
    select min(snapshot_date) - 1 as first_day, max(snapshot_date) as last_day
    from nights
    where complete_nights_ago is not null
)

select
    account_id,
    region,
    studio_id,
    tag,
    value,
    round(sum(running_hours), 1) as running_hours,
    count(*) over () as total
from daily_hours_by_tag
join span on day >= greatest(first_day, last_day - $days) and day < last_day
group by account_id, region, studio_id, tag, value
order by running_hours desc, account_id, region, studio_id, tag, value
limit $rows
