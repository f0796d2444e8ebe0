-- values_are_known.sql
-- Meaning:     The service sent nothing that its model does not know: no new member, no new value of an enumeration.
-- Severity:    warning.
-- Grain:       one row per newest complete snapshot and thing that is not known.
-- Reads:       current_slices, etl_slices.
-- Columns:     dataset: dataset; account_id: account; region: Region; slice_id: slice; snapshot_date: date of the
--              snapshot; unknown: member or value.
select
    slices.dataset,
    slices.account_id,
    slices.region,
    slices.slice_id,
    slices.snapshot_date,
    unnest(slices.drift) as unknown
from current_slices
join etl_slices as slices using (run_id, slice_id)
