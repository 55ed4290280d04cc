-- Quarantines runs. $1 uuid[] run  $2 int[] organisation, 0: the run's  $3 smallint[] shard  $4 text[] reason
-- Index: primary key of run, row by row.
INSERT INTO quarantine (run_id, organisation, shard, reason)
SELECT q.run_id, coalesce(r.organisation, q.organisation), q.shard, q.reason
  FROM unnest($1::uuid[], $2::integer[], $3::smallint[], $4::text[]) AS q (run_id, organisation, shard, reason)
  LEFT JOIN LATERAL (SELECT run.organisation FROM run WHERE run.id = q.run_id OFFSET 0) r ON true
    ON CONFLICT DO NOTHING
