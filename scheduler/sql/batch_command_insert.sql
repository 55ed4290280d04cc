-- Keeps inputs of a quarantined run as commands.
-- $1 smallint[] shard  $2 uuid[] run  $3 int[] organisation  $4 text[] kind  $5 json[] body
INSERT INTO command (shard, run_id, organisation, kind, body, held)
SELECT s, r, o, k, b, true FROM unnest($1::smallint[], $2::uuid[], $3::integer[], $4::text[], $5::json[]) AS c (s, r, o, k, b)
