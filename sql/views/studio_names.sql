-- studio_names.sql
-- Question:    What is each studio called?
-- Grain:       one row per account, Region and studio that has a name.
-- Reads:       studios.
-- Parameters:  none.
-- Columns:     account_id: AWS account;
--              region: AWS Region;
--              studio_id: studio;
--              studio_name: its name; with the id where another of the account and Region has the same name.
with names as (
    select account_id, region, studio_id, any_value(studio_name) as studio_name
    from studios
    where studio_name <> ''
    group by account_id, region, studio_id
)

select
    account_id,
    region,
    studio_id,
    case
        when count(*) over (partition by account_id, region, studio_name) > 1 then studio_name || ' ' || studio_id
        else studio_name
    end as studio_name
from names
