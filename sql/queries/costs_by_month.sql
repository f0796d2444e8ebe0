-- costs_by_month.sql
-- Question:    What did each studio cost, month by month?
-- Grain:       one row per month, account, Region, studio and currency.
-- Reads:       daily_costs, prices.
-- Parameters:  none.
-- Columns:     month is its first day; unpriced_hours and unpriced_volume_days have no price and are not part of the
--              costs; cost is instance_cost and storage_cost together; note says what the cost leaves out.
select
    date_trunc('month', day)::date as month,
    account_id,
    region,
    studio_id,
    currency,
    round(sum(running_hours), 1) as running_hours,
    round(sum(unpriced_hours), 1) as unpriced_hours,
    sum(unpriced_volume_days)::bigint as unpriced_volume_days,
    round(sum(instance_cost), 2) as instance_cost,
    round(sum(storage_cost), 2) as storage_cost,
    round(sum(cost), 2) as cost,
    costs_note((select count(*) from prices), sum(unpriced_hours), sum(unpriced_volume_days)) as note
from daily_costs
group by all
order by month desc, account_id, region, studio_id, currency
