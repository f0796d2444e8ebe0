-- costs_of_week.sql
-- Question:    What did the sessions of each studio cost in the last week, and in the week before?
-- Grain:       one row per account, Region, studio and currency.
-- Reads:       daily_costs, nights, largest_studios (query).
-- Parameters:  $studios INTEGER, default 40.
-- Columns:     account_id: AWS account; null for the other studios together;
--              region: AWS Region; the same;
--              studio_id: studio, or `other studios`: those beyond $studios together;
--              currency: of the costs; null without a price;
--              cost: of the last seven complete days;
--              cost_before: of the seven days before; null if snapshots do not reach back so far;
--              idle_cost: of the former, what idle hours cost;
--              idle_cost_before: of the latter, the same;
--              days: of the last seven complete days, those that snapshots reach back to [days].
with span as (
    select
        min(snapshot_date) - 1 as first_day,
        max(snapshot_date) as last_day,
        last_day - first_day > 14 as is_whole,
        least(7, last_day - first_day) as days
    from nights
    where complete_nights_ago is not null
)

select
    largest.account_id,
    largest.region,
    coalesce(largest.studio_id, 'other studios') as studio_id,
    currency,
    coalesce(sum(cost) filter (where last_day - day <= 7), 0) as cost,
    if(bool_and(is_whole), coalesce(sum(cost) filter (where last_day - day > 7), 0), null) as cost_before,
    coalesce(sum(idle_cost) filter (where last_day - day <= 7), 0) as idle_cost,
    if(bool_and(is_whole), coalesce(sum(idle_cost) filter (where last_day - day > 7), 0), null) as idle_cost_before,
    max(days) as days
from daily_costs
join span on day >= greatest(first_day, last_day - 14) and day < last_day
left join largest_studios as largest using (account_id, region, studio_id)
group by all
order by account_id, region, studio_id, currency
