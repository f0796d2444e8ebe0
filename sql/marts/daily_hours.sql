-- daily_hours.sql
-- Question:    How many hours did workstations run each day, of which type and for whom, and what did they cost?
-- Grain:       one row per UTC day, account, Region, studio, instance type, owner and launch profile.
-- Reads:       session_days, prices.
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
--              estimated_cost: running_hours x price_per_hour of the instance type; null where `prices` has no price;
--              currency: of estimated_cost, as `prices` says it.
-- Assumes:     What session_runs assumes. Volumes, backups and licences are not part of the cost.
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
    any_value(prices.currency) as currency
from session_days as days
left join prices using (ec2_instance_type)
group by all
