-- tag_usage.sql
-- Question:    How many of the sessions have each tag?
-- Grain:       one row per account, Region, studio and tag key; keys are case-sensitive.
-- Reads:       streaming_sessions, streaming_session_tags.
-- Parameters:  none.
-- Columns:     account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              tag: key of the tag;
--              sessions: sessions that have it;
--              coverage: share of the studio's sessions that have it, from 0 to 1;
--              different_values: how many different values it has.
with sessions as (
    select slice_id, account_id, region, studio_id, count(*) as sessions
    from streaming_sessions
    group by all
),

tags as (
    select slice_id, key, count(*) as tagged, count(distinct value) as different_values
    from streaming_session_tags
    group by all
)

select
    sessions.account_id,
    sessions.region,
    sessions.studio_id,
    tags.key as tag,
    tags.tagged as sessions,
    tags.tagged / sessions.sessions as coverage,
    tags.different_values
from tags
join sessions using (slice_id)
