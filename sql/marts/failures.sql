-- failures.sql
-- Question:    How often did sessions fail, when, and why?
-- Grain:       one row per snapshot date that first showed the failure, account, Region, studio, state and status code.
-- Reads:       streaming_session_changes.
-- Parameters:  none.
-- Columns:     snapshot_date: first snapshot date that shows the failures;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              state: CREATE_FAILED, START_FAILED, STOP_FAILED or DELETE_FAILED;
--              status_code: why, in the service's words;
--              failures: how many there were; a session that failed at two starts counts twice.
-- Assumes:     A failure that is over before the next snapshot is not seen.
with firsts as (
    select
        any_value(account_id) as account_id,
        any_value(region) as region,
        any_value(studio_id) as studio_id,
        state,
        status_code,
        min(snapshot_date) as snapshot_date
    from streaming_session_changes
    where state like '%FAILED'
    group by slice_id, session_id, state, status_code, started_at
)

select snapshot_date, account_id, region, studio_id, state, status_code, count(*) as failures
from firsts
group by all
