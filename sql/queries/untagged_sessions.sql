-- untagged_sessions.sql
-- Question:    Which sessions lack the tag $tag?
-- Grain:       one row per session.
-- Reads:       streaming_sessions, streaming_session_tags (current snapshot).
-- Parameters:  $tag VARCHAR, default Project, one of streaming_session_tags.key.
-- Columns:     volume_gib in GiB.
with tagged as (
    select slice_id, session_id
    from streaming_session_tags
    where key = $tag
)

select
    account_id,
    region,
    studio_id,
    session_id,
    owned_by,
    state,
    created_at,
    volume_configuration_size as volume_gib
from streaming_sessions
anti join tagged using (slice_id, session_id)
order by created_at, account_id, region, studio_id, session_id
