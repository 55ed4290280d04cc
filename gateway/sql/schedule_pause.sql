-- Pauses a schedule, or lets it go on from now: what lay between was not missed. Again changes nothing,
-- unless PostgreSQL had refused to fire it: that is tried again.
-- $1 uuid id  $2 bool paused
-- Columns: id uuid; no row when there is none. Primary keys. Locks: the schedule's row.
WITH done AS (
    UPDATE schedule s SET paused = $2, revision = revision + 1, after_at = now(), next_at = NULL, fault = NULL,
           due_at = CASE WHEN NOT $2 AND (SELECT w.enabled FROM workflow w
                                           WHERE w.organisation = s.organisation AND w.name = s.workflow) THEN now() END
     WHERE organisation = current_organisation() AND id = $1 AND (paused <> $2 OR fault IS NOT NULL))
SELECT id FROM schedule WHERE organisation = current_organisation() AND id = $1
