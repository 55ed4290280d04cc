-- Deletes a workflow: nothing starts any more; versions and runs stay readable.
-- $1 text name
-- Columns: version int4. Primary key. Locks: the workflow's row; the caller holds the lock of starts.
UPDATE workflow SET deleted_at = now(), updated_at = now()
 WHERE organisation = current_organisation() AND name = $1 AND deleted_at IS NULL
RETURNING version
