-- hours_by_instance_type.sql
-- Question:    Which instance types ran longest in the $days days before the newest snapshot?
-- Grain:       one row per instance type, the longest first; the types beyond $rows together.
-- Reads:       recent_hours.
-- Parameters:  $days INTEGER, default 30; $rows INTEGER, default 10.
-- Columns:     ec2_instance_type: EC2 instance type;
--              running_hours: time that sessions of the type ran [hours].
with types as (
    select
        ec2_instance_type,
        sum(running_hours) as running_hours,
        row_number() over (order by sum(running_hours) desc, ec2_instance_type) as place,
        count(*) over () as types
    from recent_hours
    where days_ago <= $days
    group by ec2_instance_type
)

select
    first_or_others(ec2_instance_type, place, types, $rows) as ec2_instance_type,
    sum(running_hours) as running_hours
from types
group by all
order by min(place)
