-- A run of an operation will not be done again, for a reason that stays; what has been decided meanwhile stands.
-- $1 uuid operation  $2 uuid run  $3 text code  $4 text reason
-- Locks the row. Index: primary key.
UPDATE bulk_run SET code = $3, message = $4
 WHERE organisation = current_organisation() AND operation = $1 AND run_id = $2 AND new_run IS NULL AND code IS NULL
