-- A page of workflows by name.
-- $1 text names after this one; $2 int4 how many
-- Columns: name text, version int4, enabled bool, created_at, updated_at timestamptz. Primary key. No locks.
SELECT name, version, enabled, created_at, updated_at FROM workflow
 WHERE organisation = current_organisation() AND name > $1 AND deleted_at IS NULL
 ORDER BY name LIMIT $2
