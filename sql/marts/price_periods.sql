-- price_periods.sql
-- Question:    What did an hour of each instance type and a month of storage cost in each Region, from when until when?
-- Grain:       one row per Region, instance type of a session, and period of equal prices.
-- Reads:       streaming_session_changes, prices.
-- Parameters:  none.
-- Columns:     region: AWS Region;
--              ec2_instance_type: EC2 instance type;
--              valid_from: first UTC day; 0001-01-01 stands for always;
--              valid_until: UTC day after the last one; 9999-12-31: until now;
--              currency: of all prices that hold in this Region in this period;
--              price_per_hour: of an hour of the instance type; null where `prices` has none, as the next three;
--              price_per_gib_month: of a GiB of a volume for a month;
--              price_per_iops_month: of an operation/s beyond those that a volume includes, for a month;
--              price_per_throughput_month: of a MiB/s beyond those that a volume includes, for a month.
-- Assumes:     A price of the Region goes before one of every Region. Of two that are left, the one that is valid since
--              later holds. All marts, views and queries about costs take their prices from here. Days before the first
--              price of a Region are in no period.
with used as (
    select distinct region, ec2_instance_type
    from streaming_session_changes
),

begins as (
    select distinct used.region, used.ec2_instance_type, coalesce(prices.valid_from, date '0001-01-01') as valid_from
    from used
    join prices on coalesce(prices.region = used.region, true)
),

periods as (
    select
        *,
        coalesce(
            lead(valid_from) over (partition by region, ec2_instance_type order by valid_from), date '9999-12-31'
        ) as valid_until
    from begins
),

found as (
    select periods.region, periods.ec2_instance_type, periods.valid_from, prices.item, prices.price
    from periods
    join prices on coalesce(prices.region = periods.region, true)
        and (prices.ec2_instance_type is null or prices.ec2_instance_type = periods.ec2_instance_type)
        and coalesce(prices.valid_from <= periods.valid_from, true)
    qualify row_number() over (
        partition by periods.region, periods.ec2_instance_type, periods.valid_from, prices.item
        order by prices.region is null, prices.valid_from desc nulls last
    ) = 1
),

-- The price of a Region that began last holds. All that hold with it have its currency: the price table is checked.
currencies as (
    select days.region, days.valid_from, priced.currency
    from (select distinct region, valid_from from periods) as days
    join (select distinct region, valid_from, currency from prices) as priced
        on coalesce(priced.region = days.region, true) and coalesce(priced.valid_from <= days.valid_from, true)
    qualify row_number() over (
        partition by days.region, days.valid_from
        order by priced.region is null, priced.valid_from desc nulls last
    ) = 1
)

select
    periods.region,
    periods.ec2_instance_type,
    periods.valid_from,
    periods.valid_until,
    currencies.currency,
    any_value(found.price) filter (where found.item = 'instance_hour') as price_per_hour,
    any_value(found.price) filter (where found.item = 'volume_gib_month') as price_per_gib_month,
    any_value(found.price) filter (where found.item = 'volume_iops_month') as price_per_iops_month,
    any_value(found.price) filter (where found.item = 'volume_throughput_month') as price_per_throughput_month
from periods
join currencies using (region, valid_from)
left join found on found.region = periods.region
    and found.ec2_instance_type is not distinct from periods.ec2_instance_type
    and found.valid_from = periods.valid_from
group by all
