-- storage_by_owner.sql
-- Question:    How much storage does each owner hold, studio by studio?
-- Grain:       one row per studio and owner.
-- Reads:       streaming_sessions (current snapshot).
-- Parameters:  none.
-- Columns:     volume_gib in GiB, iops in operations/s, throughput in MiB/s: sums over the sessions that have a volume.
with volumes as (
    select studio_id, owned_by, volume_configuration_size, volume_configuration_iops, volume_configuration_throughput
    from streaming_sessions
    where volume_configuration_size is not null
)

select
    studio_id,
    owned_by,
    count(*) as sessions,
    sum(volume_configuration_size)::bigint as volume_gib,
    sum(volume_configuration_iops)::bigint as iops,
    sum(volume_configuration_throughput)::bigint as throughput
from volumes
group by all
order by volume_gib desc, studio_id, owned_by
