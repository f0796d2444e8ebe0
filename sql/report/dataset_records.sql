-- dataset_records.sql
-- Question:    How many records did each dataset have in each of the last $nights nights?
-- Grain:       one row per dataset and snapshot date with a whole snapshot of one of its slices.
-- Reads:       finished_snapshots, nights.
-- Parameters:  $nights INTEGER, default 30.
-- Columns:     dataset: dataset;
--              snapshot_date: UTC date of the snapshots;
--              records: records in them.
select dataset, snapshot_date, sum(records)::bigint as records
from finished_snapshots
join nights using (snapshot_date)
where nights_ago < $nights
group by dataset, snapshot_date
order by dataset, snapshot_date
