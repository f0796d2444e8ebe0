-- sessions_by_tag.sql
-- Question:    How are sessions spread over the values of the tag $tag?
-- Grain:       one row per value of the tag; null stands for sessions without it.
-- Reads:       streaming_sessions, streaming_session_tags (current snapshot).
-- Parameters:  $tag VARCHAR, default Project, one of streaming_session_tags.key.
-- Columns:     running counts the sessions in state READY.
with tagged as (
    select slice_id, session_id, value
    from streaming_session_tags
    where key = $tag
)

select
    tagged.value as tag_value,
    count(*) as sessions,
    count(*) filter (where streaming_sessions.state = 'READY') as running
from streaming_sessions
left join tagged using (slice_id, session_id)
group by tag_value
order by sessions desc, tag_value
