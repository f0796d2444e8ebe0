-- idle_costs.sql
-- Question:    What would it have saved to stop each session $hours hours after something happened to it last?
-- Grain:       one row per month, account, Region, studio and currency.
-- Reads:       idle_days, price_periods, prices.
-- Parameters:  $hours INTEGER, default 12, at least 0.
-- Columns:     month is its first day; sessions and idle_hours are those beyond the first $hours hours; idle_cost is
--              their price, without that of unpriced_hours; volumes cost the same in a stopped session.
with beyond as (
    select
        idle.*,
        greatest(0, least(idle_seconds, idle_seconds_before + idle_seconds - $hours * 3600)) / 3600 as idle_hours
    from idle_days as idle
)

select
    date_trunc('month', beyond.day)::date as month,
    beyond.account_id,
    beyond.region,
    beyond.studio_id,
    prices.currency,
    count(distinct (beyond.slice_id, beyond.session_id)) as sessions,
    round(sum(beyond.idle_hours), 1) as idle_hours,
    round(coalesce(sum(beyond.idle_hours) filter (where prices.price_per_hour is null), 0), 1) as unpriced_hours,
    round(sum((beyond.idle_hours * prices.price_per_hour)::decimal(28, 8)), 2) as idle_cost,
    costs_note(
        (select count(*) from prices), sum(beyond.idle_hours) filter (where prices.price_per_hour is null), 0
    ) as note
from beyond
left join price_periods as prices on prices.region = beyond.region
    and prices.ec2_instance_type is not distinct from beyond.ec2_instance_type
    and beyond.day >= prices.valid_from
    and beyond.day < prices.valid_until
where beyond.idle_hours > 0
group by all
order by month desc, beyond.account_id, beyond.region, beyond.studio_id, prices.currency
