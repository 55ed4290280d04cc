-- How many tasks of the organisation opened before this one in its pool and priority, and are still open.
-- $1 text pool  $2 int2 priority  $3 timestamptz when this one opened  $4 int counted up to
-- Columns: count int8. Index: none; open work is what is open now, and one person asks. No locks.
SELECT count(*) FROM (SELECT FROM open_work WHERE kind = 1 AND organisation = current_organisation() AND pool = $1 AND priority = $2
                         AND opened_at < $3 LIMIT $4::int) w
