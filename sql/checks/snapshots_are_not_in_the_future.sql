-- snapshots_are_not_in_the_future.sql
-- Meaning:     No snapshot has a date that has not come yet. Such a snapshot would stay the newest for ever.
-- Severity:    error.
-- Grain:       one row per run and snapshot date in the future.
-- Reads:       etl_slices.
-- Columns:     snapshot_date: date that has not come yet (UTC); run_id: run that published it.
select distinct snapshot_date, run_id
from etl_slices
where is_published and snapshot_date > (now() at time zone 'UTC')::date
