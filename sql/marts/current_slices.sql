-- current_slices.sql
-- Question:    Which snapshot of each studio (or other slice) is the newest complete one?
-- Grain:       one row per dataset, account, Region and parent parameters.
-- Reads:       finished_snapshots.
-- Parameters:  none.
-- Columns:     as in etl_slices.
-- Assumes:     A listing without filters goes before one with. A studio that was only ever listed with filters has the
--              newest of those listings here; is_filtered tells them apart.
select
    dataset,
    account_id,
    region,
    parents,
    slice_id,
    snapshot_date,
    run_id,
    rows,
    is_filtered,
    observed_from,
    observed_until
from finished_snapshots
qualify row_number() over (
    partition by dataset, account_id, region, parents::varchar
    order by is_filtered, snapshot_date desc, coalesce(publication, 0) desc, published_at desc
) = 1
