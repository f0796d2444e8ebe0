-- state_changes.sql
-- Question:    Between which states did sessions move in the last $nights nights?
-- Grain:       one row per pair of states.
-- Reads:       streaming_session_changes, nights.
-- Parameters:  $nights INTEGER, default 7, at least 1.
-- Columns:     moves counts changes of state between two snapshots; what happened in between is not seen.
with moves as (
    select snapshot_date, json_extract_string(old_values['state'], '$') as from_state, state as to_state
    from streaming_session_changes
    where change = 'changed' and list_contains(changed_columns, 'state')
)

select from_state, to_state, count(*) as moves
from moves
join nights using (snapshot_date)
where complete_nights_ago < $nights
group by all
order by moves desc, from_state, to_state
