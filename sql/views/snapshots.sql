-- snapshots.sql
-- Question:    Which snapshots are published, and how did their walks go?
-- Grain:       one row per slice and snapshot date: what the last run for that date published.
-- Reads:       etl_slices.
-- Parameters:  none.
-- Columns:     as in etl_slices.
select *
from etl_slices
where is_published
qualify row_number() over (
    partition by slice_id, snapshot_date
    order by coalesce(publication, 0) desc, published_at desc
) = 1
