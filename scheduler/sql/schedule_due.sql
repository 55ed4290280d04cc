-- Schedules of these shards that somebody has to look at, the longest due first, and those whose run before has ended while times
-- wait for it. While many starts wait to be applied only few more are given: they would be in the way of other people's.
-- $1 smallint[] shards  $2 int4 how many
-- Columns: id uuid, organisation int4, workflow, trigger text, shard int2, revision int4, override or definition json,
-- input json, its schema json when the input has expressions, anchor_at, after_at, due_at timestamptz, last_run uuid, that goes
-- on bool, times that wait int2, the oldest of them timestamptz, now timestamptz.
-- Indexes: schedule_due, schedule_waiting, schedule_fire_queued, command_waiting. No locks.
WITH most AS MATERIALIZED (
    SELECT greatest(20, least($2, 1000 - (SELECT count(*) FROM (SELECT FROM command c WHERE c.shard = ANY ($1::smallint[])
                                                                 AND NOT c.held
                                                                 AND c.kind IN ('start', 'begin') LIMIT 1000) x)))::int4 AS n),
looked AS MATERIALIZED (
    (SELECT s.id FROM schedule s
      WHERE s.due_at <= clock_timestamp() AND s.shard = ANY ($1::smallint[])
      ORDER BY s.due_at LIMIT (SELECT least(n, $2) FROM most))
    UNION
    (SELECT s.id FROM schedule s JOIN workflow w ON w.organisation = s.organisation AND w.name = s.workflow
      WHERE s.waiting > 0 AND s.shard = ANY ($1::smallint[]) AND NOT s.paused AND s.fault IS NULL AND w.enabled AND w.deleted_at IS NULL
        AND NOT EXISTS (SELECT FROM run r WHERE r.id = s.last_run AND r.status IN ('pending', 'active', 'paused'))
      LIMIT (SELECT least(n, $2) FROM most)))
SELECT s.id, s.organisation, s.workflow, s.trigger, s.shard, s.revision, coalesce(s.override, s.definition),
       s.definition -> 'input',
       CASE WHEN strpos((s.definition -> 'input')::text, '${') > 0 THEN (
           SELECT convert_from(v.document, 'UTF8')::json -> 'input_schema'
             FROM workflow w JOIN workflow_version v ON v.organisation = w.organisation AND v.workflow = w.name AND v.version = w.version
            WHERE w.organisation = s.organisation AND w.name = s.workflow) END,
       s.anchor_at, s.after_at, s.due_at, s.last_run,
       coalesce((SELECT r.status IN ('pending', 'active', 'paused') FROM run r WHERE r.id = s.last_run), false), s.waiting,
       CASE WHEN s.waiting > 0 THEN (SELECT min(q.nominal_at) FROM schedule_fire q WHERE q.schedule = s.id AND q.queued) END,
       clock_timestamp()
  FROM looked JOIN schedule s ON s.id = looked.id
 ORDER BY s.due_at NULLS LAST, s.id LIMIT $2
