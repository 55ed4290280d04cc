-- Appends events. Arrays, one element per event: $1 uuid[]: run; $2 int[]: seq; $3 int[]: organisation; $4 timestamptz[]: at;
-- $5 smallint[]: type; $6 text[]: step; $7 smallint[]: attempt; $8 json[]: data; $9 json[]: output.
-- 23505: somebody else has written that seq, the cached state is stale. Index: primary key.
INSERT INTO event (run_id, seq, organisation, at, type, step, attempt, data, output)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::int[], $4::timestamptz[], $5::smallint[], $6::text[], $7::smallint[],
                     $8::json[], $9::json[])
