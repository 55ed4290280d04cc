-- Triggers that an event may set off: those of workflows that are there and enabled, as of their newest version.
-- $1 text type  $2 text source
-- Columns: workflow text, version int4, trigger text. Indexes: event_trigger_type, primary key of workflow. No locks.
SELECT t.workflow, w.version, t.trigger
  FROM event_trigger t JOIN workflow w ON w.organisation = t.organisation AND w.name = t.workflow
 WHERE t.organisation = current_organisation() AND t.type = $1 AND (t.source IS NULL OR t.source = $2)
   AND w.deleted_at IS NULL AND w.enabled
 ORDER BY t.workflow, t.trigger
