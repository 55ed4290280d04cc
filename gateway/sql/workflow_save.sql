-- Saves a document: a new version where its content changed, else only the text (metadata is no content).
-- $1 text name; $2 bytea document as sent; $3 bytea sha256 of the canonical form without metadata; $4 text prefix of
-- the key that saves; $5 int4 version that must be the newest, or NULL
-- Columns: verdict text (new, again, changed, same, precondition), version int4 now the newest. Primary keys.
-- Locks: the workflow's row; the caller holds the save lock.
WITH cur AS (
    SELECT w.version, w.deleted_at, v.hash
      FROM workflow w
      JOIN workflow_version v ON v.organisation = w.organisation AND v.workflow = w.name AND v.version = w.version
     WHERE w.organisation = current_organisation() AND w.name = $1),
judged AS (
    SELECT CASE WHEN $5::int4 IS NOT NULL AND $5 IS DISTINCT FROM (SELECT version FROM cur WHERE deleted_at IS NULL)
                THEN 'precondition'
                WHEN NOT EXISTS (SELECT FROM cur) THEN 'new'
                WHEN (SELECT deleted_at IS NOT NULL FROM cur) THEN 'again'
                WHEN (SELECT hash FROM cur) = $3::bytea THEN 'same'
                ELSE 'changed' END AS verdict,
           coalesce((SELECT version FROM cur), 0) AS version),
flow AS (
    INSERT INTO workflow (organisation, name, version)
    SELECT current_organisation(), $1, version + 1 FROM judged WHERE verdict IN ('new', 'again', 'changed')
    ON CONFLICT (organisation, name) DO UPDATE
       SET version = excluded.version, updated_at = now(), document = NULL,
           enabled = workflow.enabled OR workflow.deleted_at IS NOT NULL, deleted_at = NULL
    RETURNING version),
ver AS (
    INSERT INTO workflow_version (organisation, workflow, version, document, hash, created_by)
    SELECT current_organisation(), $1, version, $2, $3, $4 FROM flow),
text AS (
    UPDATE workflow SET document = $2, updated_at = now()
     WHERE organisation = current_organisation() AND name = $1 AND (SELECT verdict FROM judged) = 'same')
SELECT verdict, coalesce((SELECT version FROM flow), version) FROM judged
