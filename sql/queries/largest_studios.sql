-- largest_studios.sql
-- Question:    Which $studios studios have most sessions?
-- Grain:       one row per account, Region and studio, the largest first.
-- Reads:       streaming_sessions (current snapshot).
-- Parameters:  $studios INTEGER, default 40, at least 0.
-- Columns:     volume_gib in GiB.
select
    account_id,
    region,
    studio_id,
    count(*) as sessions,
    coalesce(sum(volume_configuration_size), 0)::bigint as volume_gib
from streaming_sessions
group by account_id, region, studio_id
order by sessions desc, account_id, region, studio_id
limit $studios
