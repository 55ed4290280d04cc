-- Closes rows of open work; one that is not there is no error.
-- $1 smallint[] shard  $2 uuid[] run  $3 int[] seq. Index: primary key.
DELETE FROM open_work w USING unnest($1::smallint[], $2::uuid[], $3::integer[]) AS closed (shard, run_id, seq)
WHERE w.shard = closed.shard AND w.run_id = closed.run_id AND w.seq = closed.seq
