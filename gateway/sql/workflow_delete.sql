-- Deletes a workflow: nothing starts any more, what waits at its triggers goes; versions and runs stay readable.
-- $1 text name  $2 int4 version that must be the newest, or NULL
-- Columns: version int4, deleted bool (false: it is not that version); no row when there is no such workflow. Primary keys.
-- Locks: the workflow's row, those of its held groups; the caller holds the lock of starts.
WITH done AS (
    UPDATE workflow SET deleted_at = now(), updated_at = now()
     WHERE organisation = current_organisation() AND name = $1 AND deleted_at IS NULL AND ($2::int4 IS NULL OR version = $2)
    RETURNING name),
groups AS (
    DELETE FROM held_group WHERE organisation = current_organisation() AND workflow = (SELECT name FROM done)
    RETURNING id),
items AS (
    DELETE FROM held_item WHERE held_group IN (SELECT id FROM groups))
SELECT version, EXISTS (SELECT FROM done) FROM workflow
 WHERE organisation = current_organisation() AND name = $1 AND deleted_at IS NULL
