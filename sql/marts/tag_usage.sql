-- tag_usage.sql
-- Question:    How many of the sessions have each tag?
-- Grain:       one row per studio and tag key; keys are case-sensitive.
-- Reads:       streaming_sessions, streaming_session_tags.
-- Parameters:  none.
-- Columns:     studio_id: studio;
--              tag: key of the tag;
--              sessions: sessions that have it;
--              coverage: share of the studio's sessions that have it, from 0 to 1;
--              different_values: how many different values it has.
with sessions as (
    select slice_id, any_value(studio_id) as studio_id, count(*) as sessions
    from streaming_sessions
    group by slice_id
),

tags as (
    select slice_id, key, count(*) as tagged, count(distinct value) as different_values
    from streaming_session_tags
    group by all
)

select
    sessions.studio_id,
    tags.key as tag,
    tags.tagged as sessions,
    tags.tagged / sessions.sessions as coverage,
    tags.different_values
from tags
join sessions using (slice_id)
