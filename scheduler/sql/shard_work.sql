-- All open work of a shard, for its new owner: one range of the primary key. $1 smallint shard.
-- Columns: run, seq, organisation, weight, kind, step, attempt, dispatch, pool, priority, due_at.
SELECT w.run_id, w.seq, w.organisation, o.weight, w.kind, w.step, w.attempt, w.dispatch, w.pool, w.priority, w.due_at
FROM open_work w JOIN organisation o ON o.id = w.organisation WHERE w.shard = $1 ORDER BY w.run_id, w.seq
