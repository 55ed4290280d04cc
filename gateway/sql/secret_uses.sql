-- Where a workflow refers to secrets: these places and no others, if this is what its newest version says.
-- $1 text workflow  $2 bytea hash of the document's content  $3 text[] secrets  $4 text[] pointers
-- Index: secret_use_workflow. Locks its rows; the caller holds the save lock.
WITH newest AS (
    SELECT FROM workflow w
      JOIN workflow_version v ON v.organisation = w.organisation AND v.workflow = w.name AND v.version = w.version
     WHERE w.organisation = current_organisation() AND w.name = $1 AND w.deleted_at IS NULL AND v.hash = $2),
uses AS (SELECT secret, pointer FROM unnest($3::text[], $4::text[]) AS u (secret, pointer) WHERE EXISTS (SELECT FROM newest)),
gone AS (
    DELETE FROM secret_use
     WHERE organisation = current_organisation() AND workflow = $1 AND EXISTS (SELECT FROM newest)
       AND (secret, pointer) NOT IN (SELECT secret, pointer FROM uses))
INSERT INTO secret_use (organisation, secret, workflow, pointer)
SELECT DISTINCT current_organisation(), secret, $1, pointer FROM uses
ON CONFLICT DO NOTHING
