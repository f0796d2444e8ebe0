-- unfinished_walks.sql
-- Question:    Which walks of the last $nights nights did not reach their last page, and why?
-- Grain:       one row per run and slice, newest first.
-- Reads:       etl_slices, nights.
-- Parameters:  $nights INTEGER, default 30; $rows INTEGER, default 100.
-- Columns:     snapshot_date: UTC date of the snapshot;
--              dataset: dataset;
--              slice: account and Region, if there are several, and parameters of the slice;
--              state: how the walk ended;
--              error: why;
--              total: how many there are, listed or not.
with places as (
    select count(distinct (account_id, region)) > 1 as are_several
    from etl_slices
)

select
    snapshot_date,
    dataset,
    array_to_string(if(are_several, [account_id, region], []) || map_values(parents), ', ') as slice,
    state,
    error,
    count(*) over () as total
from etl_slices
join nights using (snapshot_date)
cross join places
where nights_ago < $nights and state not in ('complete', 'skipped')
order by snapshot_date desc, run_id desc, dataset, slice
limit $rows
