-- A deferral, or another try of a poll. Arrays: $1 smallint[]: shard; $2 uuid[]: run; $3 int[]: seq; $4 int[]: dispatch;
-- $5 timestamptz[]: due_at; $6 text[]: reason. Index: primary key; no index holds what changes (HOT).
UPDATE open_work w SET dispatch = u.dispatch, due_at = u.due_at, reason = u.reason
  FROM unnest($1::smallint[], $2::uuid[], $3::int[], $4::int[], $5::timestamptz[], $6::text[])
       AS u (shard, run_id, seq, dispatch, due_at, reason)
 WHERE w.shard = u.shard AND w.run_id = u.run_id AND w.seq = u.seq
