-- session_history.sql
-- Question:    What happened to the session $session_id?
-- Grain:       one row per version.
-- Reads:       streaming_sessions_versions.
-- Parameters:  $session_id VARCHAR, default -, one of streaming_sessions_versions.session_id.
-- Columns:     valid_from and valid_to are snapshot dates; valid_to is null for the version that still is.
select
    valid_from,
    valid_to,
    account_id,
    region,
    studio_id,
    state,
    status_code,
    owned_by,
    ec2_instance_type,
    started_at,
    stopped_at,
    volume_configuration_size as volume_gib
from streaming_sessions_versions
where session_id = $session_id
order by valid_from, account_id, region, studio_id
