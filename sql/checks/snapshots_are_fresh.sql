-- snapshots_are_fresh.sql
-- Meaning:     No slice has been left behind: its newest complete snapshot is not older than the night before the newest
--              of its dataset.
-- Severity:    warning.
-- Grain:       one row per slice that is older.
-- Reads:       current_slices.
-- Columns:     dataset: dataset; account_id: account; region: Region; parents: parameters of the slice;
--              snapshot_date: its newest complete snapshot; newest_date: that of its dataset.
with dated as (
    select *, max(snapshot_date) over (partition by dataset) as newest_date
    from current_slices
)

select dataset, account_id, region, parents, snapshot_date, newest_date
from dated
where snapshot_date < newest_date - 1
