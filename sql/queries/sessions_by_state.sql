-- sessions_by_state.sql
-- Question:    How many sessions does each studio have, in which state, and how much storage do they hold?
-- Grain:       one row per account, Region, studio and state.
-- Reads:       streaming_sessions (current snapshot), studio_names.
-- Parameters:  none.
-- Columns:     studio is its name, with its id where another of the account and Region has the same name; volume_gib is
--              the sum of the root volumes, in GiB; sessions without persistence hold none.
select
    account_id,
    region,
    coalesce(studio_name, studio_id) as studio,
    state,
    count(*) as sessions,
    coalesce(sum(volume_configuration_size), 0)::bigint as volume_gib
from streaming_sessions
left join studio_names using (account_id, region, studio_id)
group by all
order by account_id, region, studio, sessions desc, state
