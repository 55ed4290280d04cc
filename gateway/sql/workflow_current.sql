-- The newest version of a workflow, with its document as last saved.
-- $1 text name
-- Columns: version int4, enabled bool, document bytea, created_at, updated_at timestamptz. Primary keys. No locks.
SELECT w.version, w.enabled, coalesce(w.document, v.document), w.created_at, w.updated_at
  FROM workflow w
  JOIN workflow_version v ON v.organisation = w.organisation AND v.workflow = w.name AND v.version = w.version
 WHERE w.organisation = current_organisation() AND w.name = $1 AND w.deleted_at IS NULL
