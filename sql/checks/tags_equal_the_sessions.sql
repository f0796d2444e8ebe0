-- tags_equal_the_sessions.sql
-- Meaning:     The tall table has exactly the tags that stand in the column `tags` of the sessions.
-- Severity:    error.
-- Grain:       one row per studio whose numbers of tags differ.
-- Reads:       streaming_sessions, streaming_session_tags.
-- Columns:     account_id: account; region: Region; studio_id: studio; in_sessions: entries of the column; in_table:
--              rows of the tall table.
with sessions as (
    select slice_id, account_id, region, studio_id, coalesce(sum(cardinality(tags)), 0)::bigint as in_sessions
    from streaming_sessions
    group by all
),

entries as (
    select slice_id, account_id, region, studio_id, count(*) as in_table
    from streaming_session_tags
    group by all
)

select
    account_id,
    region,
    studio_id,
    coalesce(in_sessions, 0) as in_sessions,
    coalesce(in_table, 0) as in_table
from sessions
full outer join entries using (slice_id, account_id, region, studio_id)
where coalesce(in_sessions, 0) <> coalesce(in_table, 0)
