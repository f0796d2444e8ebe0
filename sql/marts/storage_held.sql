-- storage_held.sql
-- Question:    How much storage does each owner hold, studio by studio?
-- Grain:       one row per account, Region, studio and owner with a session that has a volume.
-- Reads:       streaming_sessions.
-- Parameters:  none.
-- Columns:     account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              owned_by: user who owns the sessions;
--              sessions: those that have a root volume;
--              volume_gib: their volumes together [GiB];
--              volume_iops: the same [operations/s];
--              volume_throughput: the same [MiB/s].
select
    account_id,
    region,
    studio_id,
    owned_by,
    count(*) as sessions,
    sum(volume_configuration_size)::bigint as volume_gib,
    sum(volume_configuration_iops)::bigint as volume_iops,
    sum(volume_configuration_throughput)::bigint as volume_throughput
from streaming_sessions
where volume_configuration_size is not null
group by all
