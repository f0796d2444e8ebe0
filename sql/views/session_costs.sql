-- session_costs.sql
-- Question:    What did each session cost on each day?
-- Grain:       one row per run of a session and UTC day that it touches, and one per session and UTC day with a volume.
-- Reads:       session_days, idle_days, volume_days, daily_prices.
-- Parameters:  none.
-- Columns:     day: UTC date;
--              slice_id: slice that lists the session;
--              account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              session_id: session;
--              ec2_instance_type: EC2 instance type;
--              owned_by: user who owns the session;
--              launch_profile_id: launch profile of the session;
--              tags: its tags;
--              currency: of all costs of this Region on this day; null where no price holds;
--              running_hours: time that the session ran [hours];
--              priced_hours: those whose instance type has a price [hours];
--              unpriced_hours: those whose instance type has none [hours];
--              instance_cost: priced_hours x price of an hour; null without a price;
--              idle_hours: of running_hours, those without anything that happened to the session [hours];
--              idle_cost: of instance_cost, what idle_hours cost; null without a price;
--              volume_days: 1 in the row of a volume, otherwise 0 [days];
--              volume_gib_days: size of the volume [GiB x days];
--              extra_iops_days: operations/s beyond the 3000 that a volume includes [operations/s x days];
--              extra_throughput_days: MiB/s beyond the 125 that a volume includes [MiB/s x days];
--              unpriced_volume_days: 1 where some part of the volume that costs has no price, otherwise 0 [days];
--              storage_cost: price of the volume for its month / days of that month; null if a GiB has no price.
-- Assumes:     What session_days, idle_days and volume_days assume. Volumes are gp3, which include 3,000 operations/s
--              and 125 MiB/s (docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html). Only what is beyond these
--              is priced apart. A run counts with the attributes that a snapshot showed last of it, a volume with those
--              of its day. Backups, licences and data transfer are no part of the cost.
with idle as (
    select day, slice_id, session_id, started_at, sum(idle_seconds) as idle_seconds
    from idle_days
    group by all
),

parts as (
    select
        days.day,
        days.slice_id,
        days.account_id,
        days.region,
        days.studio_id,
        days.session_id,
        days.ec2_instance_type,
        days.owned_by,
        days.launch_profile_id,
        days.tags,
        days.running_seconds,
        coalesce(idle.idle_seconds, 0) as idle_seconds,
        null as volume_gib,
        null as extra_iops,
        null as extra_throughput
    from session_days as days
    left join idle using (day, slice_id, session_id, started_at)
    union all
    select
        day,
        slice_id,
        account_id,
        region,
        studio_id,
        session_id,
        ec2_instance_type,
        owned_by,
        launch_profile_id,
        tags,
        null,
        null,
        volume_gib,
        greatest(coalesce(volume_iops, 0) - 3000, 0),
        greatest(coalesce(volume_throughput, 0) - 125, 0)
    from volume_days
)

select
    parts.day,
    parts.slice_id,
    parts.account_id,
    parts.region,
    parts.studio_id,
    parts.session_id,
    parts.ec2_instance_type,
    parts.owned_by,
    parts.launch_profile_id,
    parts.tags,
    prices.currency,
    coalesce(running_seconds, 0) / 3600 as running_hours,
    case when price_per_hour is null then 0 else coalesce(running_seconds, 0) end / 3600 as priced_hours,
    case when price_per_hour is null then coalesce(running_seconds, 0) else 0 end / 3600 as unpriced_hours,
    (running_seconds / 3600 * price_per_hour)::decimal(28, 8) as instance_cost,
    coalesce(idle_seconds, 0) / 3600 as idle_hours,
    (idle_seconds / 3600 * price_per_hour)::decimal(28, 8) as idle_cost,
    (volume_gib is not null)::integer as volume_days,
    coalesce(volume_gib, 0) as volume_gib_days,
    coalesce(extra_iops, 0) as extra_iops_days,
    coalesce(extra_throughput, 0) as extra_throughput_days,
    case
        when volume_gib is null then 0
        when price_per_gib_month is null then 1
        when extra_iops > 0 and price_per_iops_month is null then 1
        when extra_throughput > 0 and price_per_throughput_month is null then 1
        else 0
    end as unpriced_volume_days,
    (
        (
            volume_gib * price_per_gib_month
            + coalesce(extra_iops * price_per_iops_month, 0)
            + coalesce(extra_throughput * price_per_throughput_month, 0)
        ) / day(last_day(parts.day))
    )::decimal(28, 8) as storage_cost
from parts
left join daily_prices as prices on prices.day = parts.day
    and prices.region = parts.region
    and prices.ec2_instance_type is not distinct from parts.ec2_instance_type
