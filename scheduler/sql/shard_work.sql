-- The open work of a shard for its new owner, page by page. $1 smallint: shard; $2 uuid, $3 int: run and seq of the last row
-- before the page; $4 int: rows of a page. Columns: run, seq, organisation, weight, kind, step, attempt, dispatch, pool,
-- priority, due_at. Index: one range of the primary key, read once. No locks: only the owner writes them.
SELECT w.run_id, w.seq, w.organisation, o.weight, w.kind, w.step, w.attempt, w.dispatch, w.pool, w.priority, w.due_at
  FROM (SELECT * FROM open_work WHERE shard = $1 AND (run_id, seq) > ($2::uuid, $3::int) ORDER BY run_id, seq LIMIT $4::int) w
  JOIN organisation o ON o.id = w.organisation
 ORDER BY w.run_id, w.seq
