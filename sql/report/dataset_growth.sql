-- dataset_growth.sql
-- Question:    How many records does each dataset have, and how many did it have a week before?
-- Grain:       one row per dataset.
-- Reads:       finished_snapshots, nights.
-- Parameters:  $rows INTEGER, default 100.
-- Columns:     dataset: dataset;
--              slices: slices with a snapshot in the last week;
--              snapshot_date: date of the newest of them;
--              records: records in the newest snapshot of each slice;
--              records_before: the same in the week before; null if there is none;
--              growth: how many more that is; negative if there are fewer;
--              total: how many datasets there are, listed or not.
with snapshot_records as (
    select
        dataset,
        slice_id,
        max(snapshot_date) as snapshot_date,
        arg_max(records, snapshot_date) filter (where nights_ago < 7) as records,
        arg_max(records, snapshot_date) filter (where nights_ago >= 7) as records_before
    from finished_snapshots
    join nights using (snapshot_date)
    where nights_ago < 14
    group by dataset, slice_id
)

select
    dataset,
    count(records) as slices,
    max(snapshot_date) as snapshot_date,
    coalesce(sum(records), 0)::bigint as records,
    sum(records_before)::bigint as records_before,
    (coalesce(sum(records), 0) - sum(records_before))::bigint as growth,
    count(*) over () as total
from snapshot_records
group by dataset
order by dataset
limit $rows
