-- daily_hours.sql
-- Question:    How many hours did workstations run each day, of which type and for whom, and what did they cost?
-- Grain:       one row per UTC day, account, Region, studio, instance type, owner and launch profile.
-- Reads:       session_days, daily_prices.
-- Parameters:  none.
-- Columns:     day: UTC date;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              ec2_instance_type: EC2 instance type;
--              owned_by: user who owns the sessions;
--              launch_profile_id: launch profile of the sessions;
--              sessions: sessions that ran on that day;
--              running_hours: time that they ran on that day, together [hours];
--              estimated_cost: running_hours x price_per_hour of daily_prices; null where that has none;
--              currency: of estimated_cost; null with it.
-- Assumes:     What session_runs assumes. Volumes are in daily_costs.
select
    days.day,
    days.account_id,
    days.region,
    days.studio_id,
    days.ec2_instance_type,
    days.owned_by,
    days.launch_profile_id,
    count(distinct (days.slice_id, days.session_id)) as sessions,
    sum(days.running_seconds) / 3600 as running_hours,
    sum(days.running_seconds) / 3600 * any_value(prices.price_per_hour) as estimated_cost,
    any_value(if(prices.price_per_hour is null, null, prices.currency)) as currency
from session_days as days
left join daily_prices as prices using (day, region, ec2_instance_type)
group by all
