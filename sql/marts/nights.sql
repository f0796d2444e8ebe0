-- nights.sql
-- Question:    Which nights were there, and how long ago was each?
-- Grain:       one row per snapshot date that a run was for.
-- Reads:       etl_runs, complete_snapshots.
-- Parameters:  none.
-- Columns:     snapshot_date: UTC date of the night;
--              nights_ago: nights before the newest one, 0 for that one [days];
--              complete_nights_ago: nights before the newest one with a complete snapshot of a studio's sessions; null
--                                   where this one has none [days].
-- Assumes:     A night without a run counts too: "the last 30 nights" are those of 30 dates, whatever happened on them.
with complete as (
    select snapshot_date, max(snapshot_date) over () - snapshot_date as complete_nights_ago
    from complete_snapshots
    where dataset = 'streaming_sessions'
    group by snapshot_date
)

select snapshot_date, max(snapshot_date) over () - snapshot_date as nights_ago, complete_nights_ago
from (select distinct snapshot_date from etl_runs)
full outer join complete using (snapshot_date)
