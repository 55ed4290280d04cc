-- A page of a workflow's versions, newest first; also of a deleted one.
-- $1 text name; $2 int4 versions below this one; $3 int4 how many
-- Columns: version int4, created_at timestamptz, created_by text, hash bytea, bytes int4. Primary key. No locks.
SELECT version, created_at, created_by, hash, length(document) FROM workflow_version
 WHERE organisation = current_organisation() AND workflow = $1 AND version < $2
 ORDER BY version DESC LIMIT $3
