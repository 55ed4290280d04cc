-- One version of a workflow, byte for byte as it was saved; also of a deleted one.
-- $1 text name; $2 int4 version
-- Columns: document bytea, created_at timestamptz, created_by text. Primary key. No locks.
SELECT document, created_at, created_by FROM workflow_version
 WHERE organisation = current_organisation() AND workflow = $1 AND version = $2
