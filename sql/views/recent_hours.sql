-- recent_hours.sql
-- Question:    How long did workstations run on each day that snapshots show from beginning to end?
-- Grain:       one row per row of daily_hours.
-- Reads:       daily_hours, nights.
-- Parameters:  none.
-- Columns:     day: UTC date;
--              days_ago: days before the newest complete snapshot, 1 or more [days];
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              ec2_instance_type: EC2 instance type;
--              owned_by: user who owns the sessions;
--              running_hours: time that they ran on that day, together [hours].
-- Assumes:     The day of the newest snapshot is not over; days long before the first were hardly seen.
with span as (
    select min(snapshot_date) - 1 as first_day, max(snapshot_date) as last_day
    from nights
    where complete_nights_ago is not null
)

select day, last_day - day as days_ago, account_id, region, studio_id, ec2_instance_type, owned_by, running_hours
from daily_hours
join span on day >= first_day and day < last_day
