-- studios_are_listed.sql
-- Meaning:     A session belongs to a studio that the account still has; a deleted studio keeps its last snapshot.
-- Severity:    warning.
-- Grain:       one row per studio that has sessions and is not listed.
-- Reads:       streaming_sessions, studios.
-- Columns:     studio_id: studio; sessions: sessions in its newest complete snapshot; snapshot_date: of that snapshot.
select studio_id, count(*) as sessions, max(snapshot_date) as snapshot_date
from streaming_sessions
anti join studios using (studio_id)
group by studio_id
