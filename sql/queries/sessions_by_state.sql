-- sessions_by_state.sql
-- Question:    How many sessions does each studio have, in which state, and how much storage do they hold?
-- Grain:       one row per studio and state.
-- Reads:       streaming_sessions (current snapshot), studios (current snapshot).
-- Parameters:  none.
-- Columns:     studio is its name, with its id where another has the same name; volume_gib is the sum of the root volumes, in GiB; sessions without persistence hold none.
with names as (
    select
        studio_id,
        if(count(*) over (partition by studio_name) > 1, studio_name || ' ' || studio_id, studio_name) as studio_name
    from studios
    where studio_name <> ''
),

sessions as (
    select coalesce(names.studio_name, studio_id) as studio, state, volume_configuration_size
    from streaming_sessions
    left join names using (studio_id)
)

select
    studio,
    state,
    count(*) as sessions,
    coalesce(sum(volume_configuration_size), 0)::bigint as volume_gib
from sessions
group by all
order by studio, sessions desc, state
