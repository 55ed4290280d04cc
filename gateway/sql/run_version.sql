-- Which version of which workflow a run runs.
-- $1 uuid run
-- Columns: workflow text, version int4. Primary key. No locks.
SELECT workflow, version FROM run WHERE id = $1 AND organisation = current_organisation()
