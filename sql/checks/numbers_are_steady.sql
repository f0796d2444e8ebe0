-- numbers_are_steady.sql
-- Meaning:     A slice has not become half or twice as large since its complete snapshot before; 20 records more or less
--              are always believed.
-- Severity:    warning.
-- Grain:       one row per slice that has.
-- Reads:       finished_snapshots, current_slices.
-- Columns:     dataset: dataset; account_id: account; region: Region; slice_id: slice; snapshot_date: newest complete
--              snapshot; rows: its rows; rows_before: those of the complete snapshot before.
-- Assumes:     A listing with filters is a slice of its own: it is compared with those before that had the same filters.
with finished as (
    select
        dataset,
        account_id,
        region,
        slice_id,
        snapshot_date,
        rows,
        lag(rows) over (partition by slice_id order by snapshot_date) as rows_before
    from finished_snapshots
)

select dataset, account_id, region, slice_id, snapshot_date, rows, rows_before
from finished
semi join current_slices using (slice_id, snapshot_date)
where abs(rows - rows_before) > 20 and (rows < rows_before / 2 or rows > rows_before * 2)
