-- What an event carries.
-- $1 uuid run  $2 int4 seq
-- Columns: output json. Primary key. No locks.
SELECT output FROM event WHERE run_id = $1 AND seq = $2 AND organisation = current_organisation()
