-- rows_equal_the_ledger.sql
-- Meaning:     A snapshot has all rows that the run counted, and every record became a row, a reject or a duplicate.
-- Severity:    error.
-- Grain:       one row per newest complete snapshot of a studio whose counts differ.
-- Reads:       streaming_sessions, current_slices, etl_slices, etl_pages.
-- Columns:     dataset: dataset; account_id: account; region: Region; slice_id: slice; snapshot_date: date of the
--              snapshot; published: rows of the run; found: rows that there are; records: records in the listing;
--              on_pages: records on the stored pages.
with found as (
    select slice_id, count(*) as found
    from streaming_sessions
    group by slice_id
),

pages as (
    select run_id, slice_id, attempt, sum(kept)::bigint as on_pages
    from etl_pages
    group by run_id, slice_id, attempt
),

counts as (
    select
        slices.dataset,
        slices.account_id,
        slices.region,
        slices.slice_id,
        slices.snapshot_date,
        slices.rows as published,
        coalesce(found.found, 0) as found,
        slices.records,
        coalesce(pages.on_pages, 0) as on_pages,
        slices.rejects,
        slices.duplicates
    from current_slices
    join etl_slices as slices using (run_id, slice_id)
    left join found using (slice_id)
    left join pages on pages.run_id = slices.run_id
        and pages.slice_id = slices.slice_id
        and pages.attempt = slices.attempt
    where slices.dataset = 'streaming_sessions'
)

select dataset, account_id, region, slice_id, snapshot_date, published, found, records, on_pages
from counts
where published <> found or records <> on_pages or records <> published + rejects + duplicates
