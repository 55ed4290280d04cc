-- Opens work. Arrays, one element per row: $1 smallint[]: shard; $2 uuid[]: run; $3 int[]: seq of the event that opens it;
-- $4 int[]: organisation; $5 smallint[]: kind; $6 text[]: step; $7 smallint[]: attempt; $8 int[]: dispatch; $9 text[]: pool;
-- $10 smallint[]: priority; $11 timestamptz[]: due_at; $12 text[]: reason; $13 timestamptz[]: opened_at.
INSERT INTO open_work (shard, run_id, seq, organisation, kind, step, attempt, dispatch, pool, priority, due_at, reason,
                       opened_at)
SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::int[], $4::int[], $5::smallint[], $6::text[], $7::smallint[],
                     $8::int[], $9::text[], $10::smallint[], $11::timestamptz[], $12::text[], $13::timestamptz[])
