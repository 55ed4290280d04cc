-- Brings the schedules of a workflow in line with the document that has just been saved; one with another document (the save
-- was refused) changes nothing. What has not changed goes on as it was, an override stays.
-- $1 text workflow  $2 bytea hash of the document's content  $3 smallint priority  $4 uuid[] ids for new ones  $5 text[] triggers
-- $6 json[] definitions  $7 smallint[] slots of the ids
-- Indexes: primary keys, (organisation, workflow, trigger). Locks: the schedules' rows; the caller holds the save lock.
WITH flow AS (
    SELECT w.enabled FROM workflow w
      JOIN workflow_version v ON v.organisation = w.organisation AND v.workflow = w.name AND v.version = w.version
     WHERE w.organisation = current_organisation() AND w.name = $1 AND w.deleted_at IS NULL AND v.hash = $2::bytea),
gone AS (
    DELETE FROM schedule WHERE organisation = current_organisation() AND workflow = $1 AND trigger <> ALL ($5::text[])
                           AND EXISTS (SELECT FROM flow))
INSERT INTO schedule AS old (id, organisation, shard, workflow, trigger, definition, priority, due_at)
SELECT a.id, current_organisation(), s.shard, $1, a.trigger, a.definition, $3, CASE WHEN flow.enabled THEN now() END
  FROM flow, unnest($4::uuid[], $5::text[], $6::json[], $7::smallint[]) AS a (id, trigger, definition, slot)
  JOIN slot s ON s.slot = a.slot
ON CONFLICT (organisation, workflow, trigger) DO UPDATE
   SET definition = excluded.definition, priority = excluded.priority, revision = old.revision + 1, fault = NULL,
       anchor_at = CASE WHEN old.override IS NULL THEN now() ELSE old.anchor_at END,
       after_at = CASE WHEN old.override IS NULL THEN now() ELSE old.after_at END,
       next_at = CASE WHEN old.override IS NOT NULL THEN old.next_at END,
       due_at = CASE WHEN old.override IS NOT NULL AND old.fault IS NULL THEN old.due_at WHEN excluded.due_at IS NOT NULL AND NOT old.paused THEN now() END
 WHERE old.definition::text <> excluded.definition::text OR old.priority <> excluded.priority
