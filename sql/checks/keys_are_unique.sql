-- keys_are_unique.sql
-- Meaning:     A session is listed once in a snapshot; readers would count it twice.
-- Severity:    error.
-- Grain:       one row per session that the newest complete snapshot has more than once.
-- Reads:       streaming_sessions.
-- Columns:     account_id: account; region: Region; studio_id: studio; session_id: session; rows: how often it is
--              there.
select
    any_value(account_id) as account_id,
    any_value(region) as region,
    any_value(studio_id) as studio_id,
    session_id,
    count(*) as rows
from streaming_sessions
group by slice_id, session_id
having count(*) > 1
