-- states_by_night.sql
-- Question:    How many sessions of each studio were in which state in the last $nights nights?
-- Grain:       one row per snapshot date, account, Region and studio.
-- Reads:       daily_states, nights, largest_studios (query).
-- Parameters:  $nights INTEGER, default 90.
-- Columns:     snapshot_date: UTC date of the snapshot;
--              account_id: AWS account; null for the other studios together;
--              region: AWS Region; the same;
--              studio_id: studio, or `other studios`: those beyond $studios together;
--              running: sessions in state READY;
--              stopped: sessions in state STOPPED;
--              in_progress: sessions that are being created, started, stopped or deleted;
--              failed: sessions of which one of these has failed;
--              others: sessions in any other state.
-- Assumes:     A studio that was not seen whole on a date has none then.
with kinds as (
    select
        snapshot_date,
        account_id,
        region,
        studio_id,
        sessions,
        case
            when state in ('READY', 'STOPPED') then state
            when suffix(state, '_IN_PROGRESS') then 'in progress'
            when suffix(state, '_FAILED') then 'failed'
            else 'other'
        end as kind
    from daily_states
    join nights using (snapshot_date)
    where complete_nights_ago < $nights
)

select
    snapshot_date,
    largest.account_id,
    largest.region,
    coalesce(largest.studio_id, 'other studios') as studio_id,
    coalesce(sum(kinds.sessions) filter (where kind = 'READY'), 0)::bigint as running,
    coalesce(sum(kinds.sessions) filter (where kind = 'STOPPED'), 0)::bigint as stopped,
    coalesce(sum(kinds.sessions) filter (where kind = 'in progress'), 0)::bigint as in_progress,
    coalesce(sum(kinds.sessions) filter (where kind = 'failed'), 0)::bigint as failed,
    coalesce(sum(kinds.sessions) filter (where kind = 'other'), 0)::bigint as others
from kinds
left join largest_studios as largest using (account_id, region, studio_id)
group by all
order by snapshot_date, account_id, region, studio_id
