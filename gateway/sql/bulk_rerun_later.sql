-- A run of an operation could not be done again just then: it is tried once more.
-- $1 uuid operation  $2 uuid run  $3 int4 after so many ms
-- Locks the row. Index: primary key.
UPDATE bulk_run SET not_before = now() + $3::int4 * interval '1 ms'
 WHERE organisation = current_organisation() AND operation = $1 AND run_id = $2 AND new_run IS NULL AND code IS NULL
