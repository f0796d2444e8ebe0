-- volumes_are_within_limits.sql
-- Meaning:     Volumes are as the API allows them: 100 to 16000 GiB, 3000 to 16000 operations/s, 125 to 1000 MiB/s.
-- Severity:    warning.
-- Grain:       one row per session whose volume is not.
-- Reads:       streaming_sessions.
-- Columns:     account_id: account; region: Region; studio_id: studio; session_id: session; gib: size; iops:
--              operations/s; throughput: MiB/s.
select
    account_id,
    region,
    studio_id,
    session_id,
    volume_configuration_size as gib,
    volume_configuration_iops as iops,
    volume_configuration_throughput as throughput
from streaming_sessions
where volume_configuration_size not between 100 and 16000
    or volume_configuration_iops not between 3000 and 16000
    or volume_configuration_throughput not between 125 and 1000
