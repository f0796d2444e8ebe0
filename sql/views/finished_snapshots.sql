-- finished_snapshots.sql
-- Question:    Which snapshots have every page that was asked for, with filters or without?
-- Grain:       one row per slice and snapshot date.
-- Reads:       snapshots.
-- Parameters:  none.
-- Columns:     as in etl_slices.
-- Assumes:     What the last run for a date published counts. A walk that began at a starting token is partial, although
--              it reached the last page.
select *
from snapshots
where state = 'complete' and not is_partial
