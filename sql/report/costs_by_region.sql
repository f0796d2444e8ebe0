-- costs_by_region.sql
-- Question:    What did the sessions of each Region cost in the last $days days?
-- Grain:       one row per Region and currency, the most expensive first.
-- Reads:       daily_costs, nights.
-- Parameters:  $days INTEGER, default 30; $rows INTEGER, default 100.
-- Columns:     region: AWS Region;
--              currency: of the costs;
--              instance_cost: of workstations;
--              idle_cost: of instance_cost, what idle hours cost;
--              storage_cost: of volumes;
--              cost: workstations and volumes together;
--              unpriced_hours: time that sessions ran whose instance type has no price; no part of a cost [hours];
--              total: how many such rows there are, listed or not.
with span as (
    select min(snapshot_date) - 1 as first_day, max(snapshot_date) as last_day
    from nights
    where complete_nights_ago is not null
)

select
    region,
    currency,
    round(sum(instance_cost), 2) as instance_cost,
    round(sum(idle_cost), 2) as idle_cost,
    round(sum(storage_cost), 2) as storage_cost,
    round(sum(cost), 2) as cost,
    round(sum(unpriced_hours), 1) as unpriced_hours,
    count(*) over () as total
from daily_costs
join span on day >= greatest(first_day, last_day - $days) and day < last_day
where currency is not null
group by region, currency
order by cost desc nulls last, region, currency
limit $rows
