-- Starts a run of a schedule now, whatever its times are; also of one that is paused.
-- $1 uuid id  $2 uuid run, of the schedule's slot  $3 timestamptz created_at  $4 text that time, for .trigger
-- Columns: verdict text (made, disabled), shard int2; no row when there is no such schedule. Primary keys.
-- Locks: the workflow's row, shared: a :disable that is answered came before or after.
WITH one AS MATERIALIZED (
    SELECT s.organisation, s.shard, s.workflow, s.trigger, s.priority, s.definition, s.override, w.version, w.enabled,
           CASE WHEN s.definition -> 'start_at_step' IS NOT NULL
                THEN json_build_object('start_at_step', s.definition -> 'start_at_step') END AS begins
      FROM schedule s JOIN workflow w ON w.organisation = s.organisation AND w.name = s.workflow AND w.deleted_at IS NULL
     WHERE s.organisation = current_organisation() AND s.id = $1 FOR SHARE OF w),
runs AS (
    INSERT INTO run (id, organisation, workflow, version, priority, created_at, input, begins, trigger)
    SELECT $2, organisation, workflow, version, priority, $3, coalesce(definition -> 'input', '{}'::json), begins,
           json_build_object('name', trigger, 'kind', (SELECT k FROM json_object_keys(coalesce(override, definition)) k WHERE k IN ('cron', 'every', 'at') LIMIT 1), 'schedule', $1, 'nominal_at', $4::text, 'manual', true)
      FROM one WHERE enabled),
started AS (
    INSERT INTO command (shard, organisation, run_id, kind, body)
    SELECT shard, organisation, $2, CASE WHEN begins IS NULL THEN 'start' ELSE 'begin' END, begins FROM one WHERE enabled)
SELECT CASE WHEN enabled THEN 'made' ELSE 'disabled' END, shard FROM one
