-- hours_have_prices.sql
-- Meaning:     Every hour that a session ran has a price, if a price table is named; costs leave out hours without one.
-- Severity:    warning.
-- Grain:       one row per Region and instance type that has hours without a price.
-- Reads:       daily_costs, prices.
-- Columns:     region: Region; ec2_instance_type: instance type; first_day: first day of them; last_day: last day;
--              unpriced_hours: hours without a price.
select
    region,
    ec2_instance_type,
    min(day) as first_day,
    max(day) as last_day,
    sum(unpriced_hours) as unpriced_hours
from daily_costs
where unpriced_hours > 0 and exists (from prices)
group by region, ec2_instance_type
