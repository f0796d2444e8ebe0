-- seen_at.sql
-- Question:    As of when does a row of a snapshot show its record?
-- Arguments:   extracted_at and snapshot_date of the row.
-- Answer:      when its page was received, or the end of the snapshot date where that was earlier: a dump that was saved
--              years ago is as of its date.
(extracted_at, snapshot_date) as least(extracted_at, (snapshot_date + 1)::timestamp at time zone 'UTC')
