-- tag_coverage.sql
-- Question:    How many of the sessions have each tag?
-- Grain:       one row per account, Region, studio and tag key; keys are case-sensitive.
-- Reads:       tag_usage.
-- Parameters:  none.
-- Columns:     coverage is the share of the studio's sessions that have the tag, from 0 to 1.
select account_id, region, studio_id, tag, sessions, round(coverage, 3) as coverage, different_values
from tag_usage
order by account_id, region, studio_id, coverage desc, tag
