-- Opens rows of open work.
-- $1 smallint[] shard  $2 uuid[] run  $3 int[] seq  $4 int[] organisation  $5 smallint[] kind  $6 text[] step
-- $7 smallint[] attempt  $8 int[] dispatch  $9 text[] pool  $10 smallint[] priority  $11 timestamptz[] due_at
-- $12 timestamptz[] opened_at  $13 text[] reason
INSERT INTO open_work (shard, run_id, seq, organisation, kind, step, attempt, dispatch, pool, priority, due_at, opened_at, reason)
SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::integer[], $4::integer[], $5::smallint[], $6::text[], $7::smallint[],
                     $8::integer[], $9::text[], $10::smallint[], $11::timestamptz[], $12::timestamptz[], $13::text[])
