-- states_by_night.sql
-- Question:    How many sessions were in which state in the last $nights nights?
-- Grain:       one row per snapshot date.
-- Reads:       daily_states, nights.
-- Parameters:  $nights INTEGER, default 90.
-- Columns:     snapshot_date: UTC date of the snapshot;
--              running: sessions in state READY;
--              stopped: sessions in state STOPPED;
--              in_progress: sessions that are being created, started, stopped or deleted;
--              failed: sessions of which one of these has failed;
--              others: sessions in any other state.
-- Assumes:     A studio that was not seen whole on a date has none then.
with kinds as (
    select
        snapshot_date,
        sessions,
        case
            when state in ('READY', 'STOPPED') then state
            when suffix(state, '_IN_PROGRESS') then 'in progress'
            when suffix(state, '_FAILED') then 'failed'
            else 'other'
        end as kind
    from daily_states
)

select
    snapshot_date,
    coalesce(sum(sessions) filter (where kind = 'READY'), 0)::bigint as running,
    coalesce(sum(sessions) filter (where kind = 'STOPPED'), 0)::bigint as stopped,
    coalesce(sum(sessions) filter (where kind = 'in progress'), 0)::bigint as in_progress,
    coalesce(sum(sessions) filter (where kind = 'failed'), 0)::bigint as failed,
    coalesce(sum(sessions) filter (where kind = 'other'), 0)::bigint as others
from kinds
join nights using (snapshot_date)
where complete_nights_ago < $nights
group by snapshot_date
order by snapshot_date
