-- Quarantines runs. Arrays: $1 uuid[]: run; $2 int[]: organisation; $3 smallint[]: shard; $4 text[]: reason.
INSERT INTO quarantine (run_id, organisation, shard, reason)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::smallint[], $4::text[])
ON CONFLICT (run_id) DO NOTHING
