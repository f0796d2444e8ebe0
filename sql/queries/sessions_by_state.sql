-- sessions_by_state.sql
-- Question:    How many sessions does each studio have, in which state, and how much storage do they hold?
-- Grain:       one row per studio and state.
-- Reads:       streaming_sessions (current snapshot), studios (current snapshot).
-- Parameters:  none.
-- Columns:     volume_gib is the sum of the root volumes, in GiB; sessions without persistence hold none.
with sessions as (
    select studio_id, state, volume_configuration_size
    from streaming_sessions
),

names as (
    select studio_id, studio_name
    from studios
)

select
    coalesce(names.studio_name, sessions.studio_id) as studio,
    sessions.state,
    count(*) as sessions,
    coalesce(sum(sessions.volume_configuration_size), 0)::bigint as volume_gib
from sessions
left join names using (studio_id)
group by all
order by studio, sessions desc, sessions.state
