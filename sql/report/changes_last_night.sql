-- changes_last_night.sql
-- Question:    What appeared, changed and vanished last night, studio by studio?
-- Grain:       one row per studio whose newest complete snapshot is that of the last night, most changes first.
-- Reads:       streaming_session_changes, current_slices.
-- Parameters:  $rows INTEGER, default 15.
-- Columns:     studio_id: studio;
--              appeared: sessions that the snapshot before did not show; a studio's first snapshot is left out;
--              changed: sessions that it showed otherwise;
--              vanished: sessions that only it showed;
--              total: how many studios there are, listed or not.
with slices as (
    select slice_id, snapshot_date, parents['studioId'] as studio_id
    from current_slices
    where dataset = 'streaming_sessions'
),

studios as (
    select
        studio_id,
        count(change) filter (where change = 'appeared') as appeared,
        count(change) filter (where change = 'changed') as changed,
        count(change) filter (where change = 'vanished') as vanished
    from slices
    left join (from streaming_session_changes select slice_id, snapshot_date, change where previous_date is not null)
        using (slice_id, snapshot_date)
    where snapshot_date = (select max(snapshot_date) from slices)
    group by studio_id
)

select *, count(*) over () as total
from studios
order by appeared + changed + vanished desc, studio_id
limit $rows
