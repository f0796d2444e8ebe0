-- hours_by_instance_type.sql
-- Question:    Which instance types ran longest in the last $days days, and in which studio?
-- Grain:       one row per instance type, the longest first, account, Region and studio; $rows types at most.
-- Reads:       recent_hours, largest_studios (query).
-- Parameters:  $days INTEGER, default 30; $rows INTEGER, default 100.
-- Columns:     ec2_instance_type: EC2 instance type;
--              account_id: AWS account; null for the other studios together;
--              region: AWS Region; the same;
--              studio_id: studio, or `other studios`: those beyond $studios together;
--              running_hours: time that sessions of the type ran [hours].
with types as (
    select ec2_instance_type, sum(running_hours) as all_hours
    from recent_hours
    where days_ago <= $days
    group by ec2_instance_type
    order by all_hours desc, ec2_instance_type
    limit $rows
)

select
    ec2_instance_type,
    largest.account_id,
    largest.region,
    coalesce(largest.studio_id, 'other studios') as studio_id,
    sum(running_hours) as running_hours
from types
join recent_hours using (ec2_instance_type)
left join largest_studios as largest using (account_id, region, studio_id)
where days_ago <= $days
group by all
order by max(all_hours) desc, ec2_instance_type, account_id, region, studio_id
