-- storage_by_owner.sql
-- Question:    How much storage does each owner hold, studio by studio?
-- Grain:       one row per account, Region, studio and owner.
-- Reads:       storage_held.
-- Parameters:  none.
-- Columns:     volume_gib in GiB, iops in operations/s, throughput in MiB/s: sums over the sessions that have a volume.
select
    account_id,
    region,
    studio_id,
    owned_by,
    sessions,
    volume_gib,
    volume_iops as iops,
    volume_throughput as throughput
from storage_held
order by volume_gib desc, account_id, region, studio_id, owned_by
