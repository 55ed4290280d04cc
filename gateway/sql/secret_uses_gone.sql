-- A workflow that is deleted uses no secrets.
-- $1 text workflow
-- Index: secret_use_workflow. Locks its rows.
DELETE FROM secret_use
 WHERE organisation = current_organisation() AND workflow = $1
   AND NOT EXISTS (SELECT FROM workflow w WHERE w.organisation = current_organisation() AND w.name = $1 AND w.deleted_at IS NULL)
