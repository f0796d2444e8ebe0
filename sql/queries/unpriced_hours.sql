-- unpriced_hours.sql
-- Question:    Which hours have no price, of which instance type and in which Region?
-- Grain:       one row per Region and instance type that has hours without a price.
-- Reads:       daily_costs, prices.
-- Parameters:  none.
-- Columns:     first_day and last_day are the days between which hours without a price lie; note says whether a price
--              table is named.
select
    region,
    ec2_instance_type,
    min(day) as first_day,
    max(day) as last_day,
    round(sum(unpriced_hours), 1) as unpriced_hours,
    costs_note((select count(*) from prices), sum(unpriced_hours), 0) as note
from daily_costs
where unpriced_hours > 0
group by region, ec2_instance_type
order by sum(unpriced_hours) desc, region, ec2_instance_type
