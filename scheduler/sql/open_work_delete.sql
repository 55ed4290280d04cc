-- Closes work; an absent row is no error. Arrays: $1 smallint[]: shard; $2 uuid[]: run; $3 int[]: seq. Index: primary key.
DELETE FROM open_work w
 USING unnest($1::smallint[], $2::uuid[], $3::int[]) AS done (shard, run_id, seq)
 WHERE w.shard = done.shard AND w.run_id = done.run_id AND w.seq = done.seq
