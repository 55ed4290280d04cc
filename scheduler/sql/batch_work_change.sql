-- Changes what history does not hold: the dispatch, when it is due, and why. No indexed column: a HOT update.
-- $1 smallint[] shard  $2 uuid[] run  $3 int[] seq  $4 int[] dispatch  $5 timestamptz[] due_at  $6 text[] reason
UPDATE open_work w SET dispatch = changed.dispatch, due_at = changed.due_at, reason = changed.reason
FROM unnest($1::smallint[], $2::uuid[], $3::integer[], $4::integer[], $5::timestamptz[], $6::text[])
     AS changed (shard, run_id, seq, dispatch, due_at, reason)
WHERE w.shard = changed.shard AND w.run_id = changed.run_id AND w.seq = changed.seq
