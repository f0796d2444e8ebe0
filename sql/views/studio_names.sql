-- studio_names.sql
-- Question:    What is each studio called?
-- Grain:       one row per studio that has a name.
-- Reads:       studios.
-- Parameters:  none.
-- Columns:     studio_id: studio;
--              studio_name: its name; with the id where another has the same name.
with names as (
    select studio_id, any_value(studio_name) as studio_name
    from studios
    where studio_name <> ''
    group by studio_id
)

select
    studio_id,
    case
        when count(*) over (partition by studio_name) > 1 then studio_name || ' ' || studio_id
        else studio_name
    end as studio_name
from names
