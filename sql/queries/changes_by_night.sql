-- changes_by_night.sql
-- Question:    What appeared, changed and vanished in the last $nights nights?
-- Grain:       one row per snapshot date and studio.
-- Reads:       streaming_session_changes, complete_snapshots.
-- Parameters:  $nights INTEGER, default 14.
-- Columns:     counts of sessions; a studio's first snapshot is left out.
with nights as (
    select *
    from streaming_session_changes
    where previous_date is not null
)

select
    snapshot_date,
    studio_id,
    count(*) filter (where change = 'appeared') as appeared,
    count(*) filter (where change = 'changed') as changed,
    count(*) filter (where change = 'vanished') as vanished
from nights
where snapshot_date > (
    select max(snapshot_date)
    from complete_snapshots
    where dataset = 'streaming_sessions'
) - $nights
group by all
order by snapshot_date desc, studio_id
