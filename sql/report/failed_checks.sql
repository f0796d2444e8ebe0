-- failed_checks.sql
-- Question:    Which checks found something in the newest snapshot?
-- Grain:       one row per check that did not pass.
-- Reads:       etl_checks.
-- Parameters:  none.
-- Columns:     check_name: name of the check;
--              severity: error or warning;
--              failures: rows that it found;
--              meaning: what holds while it passes.
select check_name, severity, failures, meaning
from etl_checks
where failures > 0
order by severity, check_name
