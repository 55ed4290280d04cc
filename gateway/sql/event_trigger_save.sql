-- Brings the event triggers of a workflow in line with the document that has just been saved; one with another document (the
-- save was refused) changes nothing.
-- $1 text workflow  $2 bytea hash of the document's content  $3 text[] triggers  $4 text[] types  $5 text[] sources or NULL
-- Index: primary keys. Locks: the triggers' rows; the caller holds the save lock.
WITH flow AS (
    SELECT FROM workflow w
      JOIN workflow_version v ON v.organisation = w.organisation AND v.workflow = w.name AND v.version = w.version
     WHERE w.organisation = current_organisation() AND w.name = $1 AND w.deleted_at IS NULL AND v.hash = $2::bytea),
gone AS (
    DELETE FROM event_trigger WHERE organisation = current_organisation() AND workflow = $1 AND trigger <> ALL ($3::text[])
                                AND EXISTS (SELECT FROM flow))
INSERT INTO event_trigger AS old (organisation, workflow, trigger, type, source)
SELECT current_organisation(), $1, a.trigger, a.type, a.source
  FROM flow, unnest($3::text[], $4::text[], $5::text[]) AS a (trigger, type, source)
ON CONFLICT (organisation, workflow, trigger) DO UPDATE SET type = excluded.type, source = excluded.source
 WHERE old.type <> excluded.type OR old.source IS DISTINCT FROM excluded.source
