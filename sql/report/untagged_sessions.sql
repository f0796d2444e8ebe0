-- untagged_sessions.sql
-- Question:    Which sessions have no tag at all?
-- Grain:       one row per session, the largest volume first.
-- Reads:       streaming_sessions, streaming_session_tags.
-- Parameters:  $rows INTEGER, default 100.
-- Columns:     account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              owned_by: user who owns it;
--              state: state;
--              volume_gib: root volume, null without one [GiB];
--              total: how many there are, listed or not.
select
    account_id,
    region,
    studio_id,
    session_id,
    owned_by,
    state,
    volume_configuration_size as volume_gib,
    count(*) over () as total
from streaming_sessions
anti join streaming_session_tags using (slice_id, session_id)
order by volume_gib desc nulls last, account_id, region, studio_id, session_id
limit $rows
