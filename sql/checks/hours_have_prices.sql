-- hours_have_prices.sql
-- Meaning:     Every hour that a session ran has a price, if a price table is named; costs leave out hours without one.
-- Severity:    warning.
-- Grain:       one row per Region and instance type that has hours without a price.
-- Reads:       session_days, price_periods, prices.
-- Columns:     region: Region; ec2_instance_type: instance type; first_day: first day of them; last_day: last day;
--              unpriced_hours: hours without a price.
select
    days.region,
    days.ec2_instance_type,
    min(days.day) as first_day,
    max(days.day) as last_day,
    sum(days.running_seconds) / 3600 as unpriced_hours
from session_days as days
left join price_periods as prices on prices.region = days.region
    and prices.ec2_instance_type is not distinct from days.ec2_instance_type
    and days.day >= prices.valid_from
    and days.day < prices.valid_until
where prices.price_per_hour is null and exists (from prices)
group by days.region, days.ec2_instance_type
