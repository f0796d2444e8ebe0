-- unpriced_hours.sql
-- Question:    Which hours have no price, of which instance type and in which Region?
-- Grain:       one row per Region and instance type that has hours without a price.
-- Reads:       session_days, price_periods, prices.
-- Parameters:  none.
-- Columns:     first_day and last_day are the days between which hours without a price lie; note says whether a price
--              table is named.
select
    days.region,
    days.ec2_instance_type,
    min(days.day) as first_day,
    max(days.day) as last_day,
    round(sum(days.running_seconds) / 3600, 1) as unpriced_hours,
    costs_note((select count(*) from prices), sum(days.running_seconds), 0) as note
from session_days as days
left join price_periods as prices on prices.region = days.region
    and prices.ec2_instance_type is not distinct from days.ec2_instance_type
    and days.day >= prices.valid_from
    and days.day < prices.valid_until
where prices.price_per_hour is null
group by days.region, days.ec2_instance_type
order by sum(days.running_seconds) desc, days.region, days.ec2_instance_type
