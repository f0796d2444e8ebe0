-- monthly_costs.sql
-- Question:    What did workstations and their volumes cost each month, of which type, for whom and with which tags?
-- Grain:       one row per month, account, Region, studio, instance type, owner, launch profile, tags and currency.
-- Reads:       session_days, idle_days, volume_periods, price_periods, prices.
-- Parameters:  none.
-- Columns:     month: its first UTC day;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              ec2_instance_type: EC2 instance type;
--              owned_by: user who owns the sessions;
--              launch_profile_id: launch profile of the sessions;
--              tags: tags of the sessions;
--              currency: of all costs of the row; null where no price holds in the Region;
--              running_hours: time that sessions ran, together [hours];
--              priced_hours: those whose instance type has a price [hours];
--              unpriced_hours: those whose instance type has none; they are no part of any cost [hours];
--              instance_cost: priced_hours x price of an hour; null without a price;
--              idle_hours: of running_hours, those without anything that happened to the session [hours];
--              idle_cost: of instance_cost, what idle_hours cost; null without a price;
--              volume_days: volumes that were there, one for each session and day [days];
--              volume_gib_days: their sizes together [GiB x days];
--              extra_iops_days: their operations/s beyond the 3000 that each includes [operations/s x days];
--              extra_throughput_days: their MiB/s beyond the 125 that each includes [MiB/s x days];
--              unpriced_volume_days: volumes of which some part that costs has no price [days];
--              storage_cost: of the volumes, the share of the days in the price for the month; null without a price;
--              cost: instance_cost and storage_cost together; null where both are.
-- Assumes:     What daily_costs assumes; it is the sum of its days. Without a price table, there are no volumes in it.
with idle as (
    select day, slice_id, session_id, started_at, sum(idle_seconds) as idle_seconds
    from idle_days
    group by all
),

runs as (
    select
        date_trunc('month', days.day)::date as month,
        days.account_id,
        days.region,
        days.studio_id,
        days.ec2_instance_type,
        days.owned_by,
        days.launch_profile_id,
        days.tags,
        prices.currency,
        sum(days.running_seconds) / 3600 as running_hours,
        coalesce(sum(days.running_seconds) filter (where price_per_hour is not null), 0) / 3600 as priced_hours,
        coalesce(sum(days.running_seconds) filter (where price_per_hour is null), 0) / 3600 as unpriced_hours,
        sum((days.running_seconds / 3600 * price_per_hour)::decimal(28, 8)) as instance_cost,
        coalesce(sum(idle.idle_seconds), 0) / 3600 as idle_hours,
        sum((coalesce(idle.idle_seconds, 0) / 3600 * price_per_hour)::decimal(28, 8)) as idle_cost
    from session_days as days
    left join idle using (day, slice_id, session_id, started_at)
    left join price_periods as prices on prices.region = days.region
        and prices.ec2_instance_type is not distinct from days.ec2_instance_type
        and days.day >= prices.valid_from
        and days.day < prices.valid_until
    group by all
),

months as (
    select
        *,
        greatest(volume_iops - 3000, 0) as extra_iops,
        greatest(volume_throughput - 125, 0) as extra_throughput,
        unnest(generate_series(date_trunc('month', first_day), last_day, interval 1 month))::date as month
    from volume_periods
    where exists (from prices)
),

pieces as (
    select
        months.*,
        prices.* exclude (region, ec2_instance_type, valid_from, valid_until),
        least(last_day, last_day(month), coalesce(valid_until - 1, last_day))
            - greatest(first_day, month, coalesce(valid_from, first_day)) + 1 as days,
        day(last_day(month)) as days_of_month
    from months
    left join price_periods as prices on prices.region = months.region
        and prices.ec2_instance_type is not distinct from months.ec2_instance_type
        and least(last_day, last_day(month)) >= prices.valid_from
        and greatest(first_day, month) < prices.valid_until
),

volumes as (
    select
        month,
        account_id,
        region,
        studio_id,
        ec2_instance_type,
        owned_by,
        launch_profile_id,
        tags,
        currency,
        sum(days) as volume_days,
        sum(volume_gib * days) as volume_gib_days,
        sum(coalesce(extra_iops, 0) * days) as extra_iops_days,
        sum(coalesce(extra_throughput, 0) * days) as extra_throughput_days,
        coalesce(
            sum(days) filter (
                where price_per_gib_month is null
                or (extra_iops > 0 and price_per_iops_month is null)
                or (extra_throughput > 0 and price_per_throughput_month is null)
            ),
            0
        ) as unpriced_volume_days,
        sum(
            (
                days * (
                    volume_gib * price_per_gib_month
                    + coalesce(extra_iops * price_per_iops_month, 0)
                    + coalesce(extra_throughput * price_per_throughput_month, 0)
                ) / days_of_month
            )::decimal(28, 8)
        ) as storage_cost
    from pieces
    group by all
),

parts as (
    select * from runs
    union all by name
    select * from volumes
)

select
    month,
    account_id,
    region,
    studio_id,
    ec2_instance_type,
    owned_by,
    launch_profile_id,
    tags,
    currency,
    coalesce(sum(running_hours), 0) as running_hours,
    coalesce(sum(priced_hours), 0) as priced_hours,
    coalesce(sum(unpriced_hours), 0) as unpriced_hours,
    sum(instance_cost)::decimal(28, 8) as instance_cost,
    coalesce(sum(idle_hours), 0) as idle_hours,
    sum(idle_cost)::decimal(28, 8) as idle_cost,
    coalesce(sum(volume_days), 0)::bigint as volume_days,
    coalesce(sum(volume_gib_days), 0)::bigint as volume_gib_days,
    coalesce(sum(extra_iops_days), 0)::bigint as extra_iops_days,
    coalesce(sum(extra_throughput_days), 0)::bigint as extra_throughput_days,
    coalesce(sum(unpriced_volume_days), 0)::bigint as unpriced_volume_days,
    sum(storage_cost)::decimal(28, 8) as storage_cost,
    coalesce(
        sum(instance_cost) + sum(storage_cost), sum(instance_cost), sum(storage_cost)
    )::decimal(28, 8) as cost
from parts
group by month, account_id, region, studio_id, ec2_instance_type, owned_by, launch_profile_id, tags, currency
