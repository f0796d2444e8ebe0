-- storage_by_owner.sql
-- Question:    Who holds the most storage, and in which studio?
-- Grain:       one row per owner, the largest first, account, Region and studio; the owners beyond $rows are left out.
-- Reads:       storage_held, largest_studios (query).
-- Parameters:  $rows INTEGER, default 100.
-- Columns:     owned_by: user who owns the sessions;
--              account_id: AWS account; null for the other studios together;
--              region: AWS Region; the same;
--              studio_id: studio, or `other studios`: those beyond $studios together;
--              volume_gib: their root volumes together [GiB].
with owners as (
    select owned_by, sum(volume_gib) as all_gib
    from storage_held
    group by owned_by
    order by all_gib desc, owned_by
    limit $rows
)

select
    held.owned_by,
    largest.account_id,
    largest.region,
    coalesce(largest.studio_id, 'other studios') as studio_id,
    sum(held.volume_gib)::bigint as volume_gib
from owners
join storage_held as held on owners.owned_by is not distinct from held.owned_by
left join largest_studios as largest using (account_id, region, studio_id)
group by all
order by max(all_gib) desc, owned_by, account_id, region, studio_id
