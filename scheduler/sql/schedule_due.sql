-- Schedules of these shards that somebody has to look at, the longest due first.
-- $1 smallint[] shards  $2 int4 how many
-- Columns: id uuid, organisation int4, workflow, trigger text, shard int2, revision int4, override or definition json,
-- input json, anchor_at, after_at timestamptz, last_run uuid, that goes on bool, now timestamptz.
-- Index: schedule_due. No locks.
SELECT s.id, s.organisation, s.workflow, s.trigger, s.shard, s.revision, coalesce(s.override, s.definition),
       s.definition -> 'input', s.anchor_at, s.after_at, s.last_run,
       coalesce((SELECT r.status IN ('pending', 'active', 'paused') FROM run r WHERE r.id = s.last_run), false), clock_timestamp()
  FROM schedule s
 WHERE s.due_at <= clock_timestamp() AND s.shard = ANY ($1::smallint[])
 ORDER BY s.due_at LIMIT $2
