-- Puts something else in the place of what the document says of a schedule, or removes that. Its times count from now on.
-- $1 uuid id  $2 json override, NULL: the document's word holds again
-- Columns: id uuid. Primary keys. Locks: the schedule's row.
UPDATE schedule s SET override = $2, revision = revision + 1, anchor_at = now(), after_at = now(), next_at = NULL, fault = NULL,
       due_at = CASE WHEN NOT s.paused AND (SELECT w.enabled FROM workflow w
                                             WHERE w.organisation = s.organisation AND w.name = s.workflow) THEN now() END
 WHERE organisation = current_organisation() AND id = $1
RETURNING id
