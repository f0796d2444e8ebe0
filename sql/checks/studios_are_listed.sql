-- studios_are_listed.sql
-- Meaning:     A session belongs to a studio that the account still has; a deleted studio keeps its last snapshot.
-- Severity:    warning.
-- Grain:       one row per account, Region and studio that has sessions and is not listed.
-- Reads:       streaming_sessions, studios.
-- Columns:     account_id: account; region: Region; studio_id: studio; sessions: sessions in its newest complete
--              snapshot; snapshot_date: of that snapshot.
select account_id, region, studio_id, count(*) as sessions, max(snapshot_date) as snapshot_date
from streaming_sessions
anti join studios using (account_id, region, studio_id)
group by account_id, region, studio_id
