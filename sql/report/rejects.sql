-- rejects.sql
-- Question:    Which records of the last $nights nights did not fit their types, and why?
-- Grain:       one row per snapshot date, dataset and reason, newest first.
-- Reads:       etl_rejects, nights.
-- Parameters:  $nights INTEGER, default 30; $rows INTEGER, default 100.
-- Columns:     snapshot_date: UTC date of the snapshot;
--              dataset: dataset;
--              reason: why they were rejected;
--              records: how many there were;
--              total: how many such rows there are, listed or not.
select snapshot_date, dataset, reason, count(*) as records, count(*) over () as total
from etl_rejects
join nights using (snapshot_date)
where nights_ago < $nights
group by snapshot_date, dataset, reason
order by snapshot_date desc, records desc, dataset, reason
limit $rows
