-- idle_times.sql
-- Question:    For how long has nothing happened to the sessions that run?
-- Grain:       one row per span of time, in order; spans without a session too.
-- Reads:       idle_times.
-- Parameters:  none.
-- Columns:     span: time since the last update of a session;
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
)

select span, count(session_id) as sessions
from spans
left join idle_times
    on (idle_seconds >= 3600 * from_hours or from_hours = 0)
    and (idle_seconds < 3600 * to_hours or to_hours is null)
group by span, from_hours
order by from_hours
