-- daily_prices.sql
-- Question:    What did an hour of each instance type and a month of storage cost on each day, in each Region?
-- Grain:       one row per UTC day, Region and instance type of which a session ran or had a volume.
-- Reads:       session_days, volume_days, prices.
-- Parameters:  none.
-- Columns:     day: UTC date;
--              region: AWS Region;
--              ec2_instance_type: EC2 instance type;
--              currency: of all prices that hold in this Region on this day; null where none does;
--              price_per_hour: of an hour of the instance type; null where `prices` has none, as the next three;
--              price_per_gib_month: of a GiB of a volume for the month of this day;
--              price_per_iops_month: of an operation/s beyond those that a volume includes, for the same month;
--              price_per_throughput_month: of a MiB/s beyond those that a volume includes, for the same month.
-- Assumes:     A price of the Region goes before one of every Region. Of two that are left, the one that is valid since
--              later holds. All marts and queries about costs take their prices from here.
with used as (
    select day, region, ec2_instance_type
    from session_days
    union
    select day, region, ec2_instance_type
    from volume_days
),

wanted as (
    select day, region, 'instance_hour' as item, ec2_instance_type
    from used
    union
    select day, region, unnest(['volume_gib_month', 'volume_iops_month', 'volume_throughput_month']), null
    from used
),

found as (
    select wanted.*, prices.price
    from wanted
    join prices on prices.item = wanted.item
        and prices.ec2_instance_type is not distinct from wanted.ec2_instance_type
        and coalesce(prices.region = wanted.region, true)
        and coalesce(prices.valid_from <= wanted.day, true)
    qualify row_number() over (
        partition by wanted.day, wanted.region, wanted.item, wanted.ec2_instance_type
        order by prices.region is null, prices.valid_from desc nulls last
    ) = 1
),

-- The price of a Region that began last holds. All that hold with it have its currency: the price table is checked.
currencies as (
    select days.day, days.region, priced.currency
    from (select distinct day, region from used) as days
    join (select distinct region, valid_from, currency from prices) as priced
        on coalesce(priced.region = days.region, true) and coalesce(priced.valid_from <= days.day, true)
    qualify row_number() over (
        partition by days.day, days.region
        order by priced.region is null, priced.valid_from desc nulls last
    ) = 1
),

storage as (
    select
        day,
        region,
        any_value(price) filter (where item = 'volume_gib_month') as price_per_gib_month,
        any_value(price) filter (where item = 'volume_iops_month') as price_per_iops_month,
        any_value(price) filter (where item = 'volume_throughput_month') as price_per_throughput_month
    from found
    where item <> 'instance_hour'
    group by day, region
)

select
    used.day,
    used.region,
    used.ec2_instance_type,
    currencies.currency,
    hours.price as price_per_hour,
    storage.price_per_gib_month,
    storage.price_per_iops_month,
    storage.price_per_throughput_month
from used
left join currencies using (day, region)
left join storage using (day, region)
left join found as hours on hours.item = 'instance_hour'
    and hours.day = used.day
    and hours.region = used.region
    and hours.ec2_instance_type = used.ec2_instance_type
