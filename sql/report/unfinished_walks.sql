-- unfinished_walks.sql
-- Question:    Which walks of the last $nights nights did not reach their last page, and why?
-- Grain:       one row per run and slice, newest first.
-- Reads:       etl_slices.
-- Parameters:  $nights INTEGER, default 30; $rows INTEGER, default 15.
-- Columns:     snapshot_date: UTC date of the snapshot;
--              dataset: dataset;
--              slice: parameters of the slice;
--              state: how the walk ended;
--              error: why;
--              total: how many there are, listed or not.
with nights as (
    select *
    from etl_slices
    where snapshot_date > (select max(snapshot_date) from etl_slices) - $nights
)

select
    snapshot_date,
    dataset,
    array_to_string(map_values(parents), ', ') as slice,
    state,
    error,
    count(*) over () as total
from nights
where state <> 'complete'
order by snapshot_date desc, run_id desc, dataset, slice
limit $rows
