-- daily_costs_by_tag.sql
-- Question:    What did workstations and their volumes cost each day for each project, shot or any other tag?
-- Grain:       one row per UTC day, account, Region, studio, tag key and value, and currency; keys are case-sensitive.
-- Reads:       session_costs.
-- Parameters:  none.
-- Columns:     day: UTC date;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              tag: key of the tag;
--              value: its value;
--              currency: of all costs of the row; null where no price holds in the Region on that day;
--              running_hours: time that sessions ran, together [hours];
--              priced_hours: those whose instance type has a price [hours];
--              unpriced_hours: those whose instance type has none; they are no part of any cost [hours];
--              instance_cost: priced_hours x price of an hour; null without a price;
--              idle_hours: of running_hours, those without anything that happened to the session [hours];
--              idle_cost: of instance_cost, what idle_hours cost; null without a price;
--              volume_days: volumes that were there, one for each session [days];
--              volume_gib_days: their sizes together [GiB x days];
--              extra_iops_days: their operations/s beyond the 3000 that each includes [operations/s x days];
--              extra_throughput_days: their MiB/s beyond the 125 that each includes [MiB/s x days];
--              unpriced_volume_days: volumes of which some part that costs has no price [days];
--              storage_cost: of the volumes, a day's share of the price for its month; null without a price;
--              cost: instance_cost and storage_cost together; null where both are.
-- Assumes:     What daily_costs assumes. A session counts for each of its tags, so only rows of one tag add up. Sessions
--              without a tag are in no row of it; the query costs_by_tag shows them as untagged.
with entries as (
    select * exclude (tags), unnest(map_entries(tags)) as entry
    from session_costs
)

select
    day,
    account_id,
    region,
    studio_id,
    entry.key as tag,
    entry.value as value,
    currency,
    sum(running_hours) as running_hours,
    sum(priced_hours) as priced_hours,
    sum(unpriced_hours) as unpriced_hours,
    sum(instance_cost)::decimal(28, 8) as instance_cost,
    sum(idle_hours) as idle_hours,
    sum(idle_cost)::decimal(28, 8) as idle_cost,
    sum(volume_days)::bigint as volume_days,
    sum(volume_gib_days)::bigint as volume_gib_days,
    sum(extra_iops_days)::bigint as extra_iops_days,
    sum(extra_throughput_days)::bigint as extra_throughput_days,
    sum(unpriced_volume_days)::bigint as unpriced_volume_days,
    sum(storage_cost)::decimal(28, 8) as storage_cost,
    coalesce(
        sum(instance_cost) + sum(storage_cost), sum(instance_cost), sum(storage_cost)
    )::decimal(28, 8) as cost
from entries
group by all
