-- costs_by_day.sql
-- Question:    What did the sessions of each studio cost, day by day?
-- Grain:       one row per UTC day, account, Region, studio and currency.
-- Reads:       daily_costs, nights, largest_studios (query).
-- Parameters:  $days INTEGER, default 30.
-- Columns:     day: UTC date;
--              account_id: AWS account; null for the other studios together;
--              region: AWS Region; the same;
--              studio_id: studio, or `other studios`: those beyond $studios together;
--              currency: of the costs; null without a price;
--              cost: workstations and volumes together.
with span as (
    select min(snapshot_date) - 1 as first_day, max(snapshot_date) as last_day
    from nights
    where complete_nights_ago is not null
)

select
    day,
    largest.account_id,
    largest.region,
    coalesce(largest.studio_id, 'other studios') as studio_id,
    currency,
    coalesce(sum(cost), 0) as cost
from daily_costs
join span on day >= greatest(first_day, last_day - $days) and day < last_day
left join largest_studios as largest using (account_id, region, studio_id)
group by all
order by day, account_id, region, studio_id, currency
