-- storage_by_owner.sql
-- Question:    Who holds the most storage?
-- Grain:       one row per owner, the largest first.
-- Reads:       storage_held.
-- Parameters:  $rows INTEGER, default 10.
-- Columns:     owned_by: user who owns the sessions;
--              volume_gib: their root volumes together [GiB].
select owned_by, sum(volume_gib)::bigint as volume_gib
from storage_held
group by owned_by
order by volume_gib desc, owned_by
limit $rows
