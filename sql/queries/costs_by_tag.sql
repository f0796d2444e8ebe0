-- costs_by_tag.sql
-- Question:    What did sessions cost for each value of the tag $tag, month by month?
-- Grain:       one row per month, value of the tag and currency, and one for the sessions without the tag.
-- Reads:       monthly_costs, prices.
-- Parameters:  $tag VARCHAR, default Project, one of streaming_session_tags.key.
-- Columns:     month is its first day; is_tagged is false for the sessions without the tag; unpriced_hours and
--              unpriced_volume_days have no price and are not part of the costs; cost is instance_cost and storage_cost
--              together; note says what the cost leaves out.
with tagged as (
    select *, tags[$tag] as tag_value
    from monthly_costs
)

select
    month,
    tag_value,
    tag_value is not null as is_tagged,
    currency,
    round(sum(running_hours), 1) as running_hours,
    round(sum(unpriced_hours), 1) as unpriced_hours,
    sum(unpriced_volume_days)::bigint as unpriced_volume_days,
    round(sum(instance_cost), 2) as instance_cost,
    round(sum(storage_cost), 2) as storage_cost,
    round(coalesce(sum(instance_cost) + sum(storage_cost), sum(instance_cost), sum(storage_cost)), 2) as cost,
    costs_note((select count(*) from prices), sum(unpriced_hours), sum(unpriced_volume_days)) as note
from tagged
group by all
order by month desc, cost desc nulls last, tag_value, currency
