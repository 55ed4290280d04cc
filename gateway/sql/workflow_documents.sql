-- The newest versions of several workflows.
-- $1 text[] names
-- Columns: name text, document bytea. Primary keys. No locks.
SELECT w.name, v.document
  FROM workflow w
  JOIN workflow_version v ON v.organisation = w.organisation AND v.workflow = w.name AND v.version = w.version
 WHERE w.organisation = current_organisation() AND w.name = ANY ($1::text[]) AND w.deleted_at IS NULL
