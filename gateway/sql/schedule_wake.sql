-- A workflow was enabled, disabled or deleted: its schedules are looked at from now on, not at all, or are gone. What lay
-- between was not missed.
-- $1 text workflow. Index: (organisation, workflow, trigger). Locks: the schedules' rows; the caller holds the lock of starts.
WITH flow AS (
    SELECT name, enabled, deleted_at IS NOT NULL AS deleted FROM workflow
     WHERE organisation = current_organisation() AND name = $1),
gone AS (
    DELETE FROM schedule WHERE organisation = current_organisation() AND workflow = $1
                           AND EXISTS (SELECT FROM flow WHERE deleted))
UPDATE schedule s SET revision = revision + 1, after_at = now(), next_at = NULL, fault = NULL,
       due_at = CASE WHEN flow.enabled AND NOT s.paused THEN now() END
  FROM flow
 WHERE s.organisation = current_organisation() AND s.workflow = flow.name AND NOT flow.deleted
   AND flow.enabled IS DISTINCT FROM (s.due_at IS NOT NULL)
