-- Deletes a workflow: nothing starts any more; versions and runs stay readable.
-- $1 text name  $2 int4 version that must be the newest, or NULL
-- Columns: version int4, deleted bool (false: it is not that version); no row when there is no such workflow. Primary key.
-- Locks: the workflow's row; the caller holds the lock of starts.
WITH done AS (
    UPDATE workflow SET deleted_at = now(), updated_at = now()
     WHERE organisation = current_organisation() AND name = $1 AND deleted_at IS NULL AND ($2::int4 IS NULL OR version = $2)
    RETURNING name)
SELECT version, EXISTS (SELECT FROM done) FROM workflow
 WHERE organisation = current_organisation() AND name = $1 AND deleted_at IS NULL
