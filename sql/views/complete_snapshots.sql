-- complete_snapshots.sql
-- Question:    Which snapshots show all records that their slice had?
-- Grain:       one row per slice and snapshot date.
-- Reads:       finished_snapshots.
-- Parameters:  none.
-- Columns:     as in etl_slices.
-- Assumes:     A slice whose walk failed, or was published partial, has no complete snapshot of that date: nothing of it
--              has vanished or changed. Filters hide records, so a listing with filters is never complete.
select *
from finished_snapshots
where not is_filtered
