-- idle_times.sql
-- Question:    For how long has nothing happened to the sessions that run?
-- Grain:       one row per span of time, in order, account, Region and studio; spans without a session too.
-- Reads:       streaming_sessions, idle_times, largest_studios (query).
-- Parameters:  $studios INTEGER, default 40.
-- Columns:     span: time since the last update of a session;
--              account_id: AWS account; null for the other studios together;
--              region: AWS Region; the same;
--              studio_id: studio, or `other studios`: those beyond $studios together;
--              sessions: running sessions within that span.
with spans as (
    select *
    from (values
        ('less than 1 hour', 0, 1),
        ('1 to 4 hours', 1, 4),
        ('4 to 12 hours', 4, 12),
        ('12 to 24 hours', 12, 24),
        ('1 to 3 days', 24, 72),
        ('more than 3 days', 72, null)
    ) as given (span, from_hours, to_hours)
),

places as (
    select distinct account_id, region, studio_id
    from streaming_sessions
),

counted as (
    select span, from_hours, places.account_id, places.region, places.studio_id, count(session_id) as sessions
    from spans
    cross join places
    left join idle_times
        on places.account_id = idle_times.account_id
        and places.region = idle_times.region
        and places.studio_id = idle_times.studio_id
        and (idle_seconds >= 3600 * from_hours or from_hours = 0)
        and (idle_seconds < 3600 * to_hours or to_hours is null)
    group by all
)

select
    span,
    largest.account_id,
    largest.region,
    coalesce(largest.studio_id, 'other studios') as studio_id,
    sum(counted.sessions)::bigint as sessions
from counted
left join largest_studios as largest using (account_id, region, studio_id)
group by all
order by min(from_hours), account_id, region, studio_id
