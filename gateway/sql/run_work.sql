-- What a run waits for.
-- $1 uuid run
-- Columns: seq int4, kind int2, step text, attempt int2, dispatch int4, pool text, priority int2, due_at timestamptz, reason
-- text, opened_at timestamptz, shard int2. Index: open_work_run. No locks.
SELECT seq, kind, step, attempt, dispatch, pool, priority, due_at, reason, opened_at, shard
  FROM open_work WHERE run_id = $1 AND kind > 0 AND organisation = current_organisation() ORDER BY seq
