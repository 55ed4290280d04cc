-- Runs with their events and open work, in one snapshot, in no order. $1 uuid[]: ids.
-- Columns: part (0 the run, 1 an event, 2 open work), run_id, seq (of a run: its version), organisation, kind (type of an
-- event), at (created_at, opened_at), step (of a run: its workflow), attempt, dispatch, pool, priority, due_at, data (of a
-- run: its input), extra (of a run: its trigger), name of the organisation, its weight, bytes of the event's output.
-- Indexes: primary keys of run and event, open_work_run. No locks: a run is written by its shard's owner alone.
SELECT 0::smallint, r.id, r.version, r.organisation, 0::smallint, r.created_at, r.workflow, 0::smallint, 0, NULL::text, r.priority,
       NULL::timestamptz, r.input, r.trigger, o.name, o.weight, 0
  FROM run r JOIN organisation o ON o.id = r.organisation
 WHERE r.id = ANY ($1::uuid[])
UNION ALL
SELECT 1::smallint, e.run_id, e.seq, e.organisation, e.type, e.at, e.step, e.attempt, 0, NULL, NULL,
       NULL, e.data, NULL, NULL, 0, coalesce(octet_length(e.output::text), 0)
  FROM event e
 WHERE e.run_id = ANY ($1::uuid[])
UNION ALL
SELECT 2::smallint, w.run_id, w.seq, w.organisation, w.kind, w.opened_at, w.step, w.attempt, w.dispatch, w.pool, w.priority,
       w.due_at, NULL, NULL, NULL, 0, 0
  FROM open_work w
 WHERE w.run_id = ANY ($1::uuid[])
