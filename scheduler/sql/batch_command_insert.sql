-- Keeps inputs of quarantined runs (held), or tells other runs something, unless they do not exist; slot_ask and slot_release
-- are for concurrency keys, which need not be there.
-- $1 smallint[] shard  $2 uuid[] run  $3 int[] organisation, 0: the run's  $4 text[] kind  $5 json[] body  $6 boolean[] held
-- Index: primary key of run, row by row.
INSERT INTO command (shard, run_id, organisation, kind, body, held)
SELECT c.shard, c.run_id, coalesce(r.organisation, c.organisation), c.kind, c.body, c.held
  FROM unnest($1::smallint[], $2::uuid[], $3::integer[], $4::text[], $5::json[], $6::boolean[]) WITH ORDINALITY
       AS c (shard, run_id, organisation, kind, body, held, n)
  LEFT JOIN LATERAL (SELECT run.organisation FROM run WHERE run.id = c.run_id OFFSET 0) r ON true
 WHERE c.held OR r.organisation IS NOT NULL OR c.kind IN ('slot_ask', 'slot_release')
 ORDER BY c.n
