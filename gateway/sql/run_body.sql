-- A run's input, whole.
-- $1 uuid run
-- Columns: input json. Primary key. No locks.
SELECT input FROM run WHERE id = $1 AND organisation = current_organisation()
