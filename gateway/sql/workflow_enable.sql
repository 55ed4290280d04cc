-- Lets starts in or keeps them out.
-- $1 text name; $2 bool enabled
-- Columns: version int4. Primary key. Locks: the workflow's row; the caller holds the lock of starts.
UPDATE workflow SET enabled = $2, updated_at = now()
 WHERE organisation = current_organisation() AND name = $1 AND deleted_at IS NULL
RETURNING version
