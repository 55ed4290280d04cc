-- Keeps inputs of quarantined runs. Arrays: $1 smallint[]: shard; $2 int[]: organisation; $3 uuid[]: run; $4 text[]: kind;
-- $5 json[]: body.
INSERT INTO command (shard, organisation, run_id, kind, body, held)
SELECT u.shard, u.organisation, u.run_id, u.kind, u.body, true
  FROM unnest($1::smallint[], $2::int[], $3::uuid[], $4::text[], $5::json[]) AS u (shard, organisation, run_id, kind, body)
