-- A page of schedules by workflow and trigger.
-- $1 text workflow or NULL: of all; $2 text workflow and $3 text trigger of the last one before; $4 int4 how many
-- Columns: id uuid, workflow, trigger text, definition, override json, paused bool, enabled bool, created_at, anchor_at,
-- after_at, next_at, due_at, last_at, last_fired_at timestamptz, last_run uuid, now timestamptz, times that
-- wait int2, fault, last_error json.
-- Index: (organisation, workflow, trigger). No locks.
SELECT s.id, s.workflow, s.trigger, s.definition, s.override, s.paused, w.enabled, s.created_at, s.anchor_at, s.after_at,
       s.next_at, s.due_at, s.last_at, s.last_fired_at, s.last_run, now(), s.waiting, s.fault, s.last_error
  FROM schedule s JOIN workflow w ON w.organisation = s.organisation AND w.name = s.workflow
 WHERE s.organisation = current_organisation() AND ($1::text IS NULL OR s.workflow = $1) AND (s.workflow, s.trigger) > ($2, $3)
 ORDER BY s.workflow, s.trigger LIMIT $4
