-- daily_hours_by_tag.sql
-- Question:    How many hours did workstations run each day for each project, shot or any other tag?
-- Grain:       one row per UTC day, account, Region, studio, tag key and value; keys are case-sensitive.
-- Reads:       session_days.
-- Parameters:  none.
-- Columns:     day: UTC date;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              tag: key of the tag;
--              value: its value;
--              sessions: sessions with that tag that ran on that day;
--              running_hours: time that they ran on that day, together [hours].
-- Assumes:     What session_runs assumes. A run counts for the tags that a snapshot showed last.
with entries as (
    select
        day, account_id, region, studio_id, slice_id, session_id, running_seconds, unnest(map_entries(tags)) as entry
    from session_days
)

select
    day,
    account_id,
    region,
    studio_id,
    entry.key as tag,
    entry.value as value,
    count(distinct (slice_id, session_id)) as sessions,
    sum(running_seconds) / 3600 as running_hours
from entries
group by all
