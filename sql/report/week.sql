-- week.sql
-- Question:    What did the sessions of each studio come to in the last week, and in the week before?
-- Grain:       one row per account, Region and studio.
-- Reads:       daily_states, recent_hours, failures, nights, largest_studios (query).
-- Parameters:  $studios INTEGER, default 40.
-- Columns:     account_id: AWS account; null for the other studios together;
--              region: AWS Region; the same;
--              studio_id: studio, or `other studios`: those beyond $studios together;
--              sessions: sessions in its newest snapshot of the last week;
--              sessions_before: sessions in its newest snapshot of the week before; null if there is none;
--              volume_tib: root volumes in the former [TiB];
--              volume_tib_before: root volumes in the latter [TiB];
--              running_hours: time that its sessions ran in the last seven complete days [hours];
--              running_hours_before: the same in the seven days before; null if snapshots do not reach back so far
--                                    [hours];
--              failures: failures that snapshots of the last seven nights are the first to show;
--              failures_before: the same of the seven nights before; null if snapshots do not reach back so far;
--              days: of the last seven complete days, those that snapshots reach back to [days].
-- Assumes:     The first snapshot of all shows failures of long before, so the week before begins after it.
with span as (
    select
        max(snapshot_date) - min(snapshot_date) > 13 as is_whole,
        least(7, max(snapshot_date) - min(snapshot_date) + 1) as days
    from nights
    where complete_nights_ago is not null
),

held as (
    select
        snapshot_date,
        complete_nights_ago < 7 as is_now,
        account_id,
        region,
        studio_id,
        sum(sessions) as sessions,
        sum(volume_gib) as gib
    from daily_states
    join nights using (snapshot_date)
    where complete_nights_ago < 14
    group by all
),

facts as (
    select
        account_id,
        region,
        studio_id,
        arg_max(sessions, snapshot_date) filter (where is_now) as sessions,
        arg_max(sessions, snapshot_date) filter (where not is_now) as sessions_before,
        arg_max(gib, snapshot_date) filter (where is_now) as gib,
        arg_max(gib, snapshot_date) filter (where not is_now) as gib_before,
        null as hours,
        null as hours_before,
        null as failures,
        null as failures_before
    from held
    group by account_id, region, studio_id
    union all by name
    select
        account_id,
        region,
        studio_id,
        sum(running_hours) filter (where days_ago <= 7) as hours,
        sum(running_hours) filter (where days_ago > 7) as hours_before
    from recent_hours
    where days_ago <= 14
    group by account_id, region, studio_id
    union all by name
    select
        account_id,
        region,
        studio_id,
        sum(failures) filter (where complete_nights_ago < 7) as failures,
        sum(failures) filter (where complete_nights_ago >= 7) as failures_before
    from failures
    join nights using (snapshot_date)
    where complete_nights_ago < 14
    group by account_id, region, studio_id
)

select
    largest.account_id,
    largest.region,
    coalesce(largest.studio_id, 'other studios') as studio_id,
    coalesce(sum(facts.sessions), 0)::bigint as sessions,
    sum(sessions_before)::bigint as sessions_before,
    coalesce(sum(gib), 0) / 1024 as volume_tib,
    sum(gib_before) / 1024 as volume_tib_before,
    coalesce(sum(hours), 0) as running_hours,
    if(bool_and(is_whole), coalesce(sum(hours_before), 0), null) as running_hours_before,
    coalesce(sum(failures), 0)::bigint as failures,
    if(bool_and(is_whole), coalesce(sum(failures_before), 0)::bigint, null) as failures_before,
    max(days) as days
from facts
cross join span
left join largest_studios as largest using (account_id, region, studio_id)
group by all
order by account_id, region, studio_id
