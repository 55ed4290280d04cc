-- Keeps inputs of quarantined runs (held), or tells other runs something, unless they do not exist; slot_ask and slot_release
-- are for concurrency keys, which need not be there. child_retry becomes the child's command `retry`; where there is no such child,
-- or it has succeeded after all, its parent is told so instead.
-- $1 smallint[] shard  $2 uuid[] run  $3 int[] organisation, 0: the run's  $4 text[] kind  $5 json[] body  $6 boolean[] held
-- Index: primary keys of run and event, row by row.
INSERT INTO command (shard, run_id, organisation, kind, body, held)
SELECT c.shard, CASE WHEN i.instead THEN (c.body ->> 'parent')::uuid ELSE c.run_id END, coalesce(r.organisation, c.organisation),
       CASE WHEN i.instead THEN 'child_ended' WHEN c.kind = 'child_retry' THEN 'retry' ELSE c.kind END,
       CASE WHEN NOT i.instead THEN c.body
            WHEN r.status IS NULL THEN
                 json_build_object('child', c.run_id, 'step', c.body ->> 'step', 'status', 'failed', 'retries', c.body -> 'retries',
                                   'refused', true, 'error', json_build_object('code', 'child_gone', 'message', 'the child run is not there any more'))
            ELSE json_build_object('child', c.run_id, 'step', c.body ->> 'step', 'status', r.status, 'retries', c.body -> 'retries',
                                   'output', (SELECT e.output FROM event e WHERE e.run_id = c.run_id AND e.type = 2 ORDER BY e.seq DESC LIMIT 1)) END,
       c.held
  FROM unnest($1::smallint[], $2::uuid[], $3::integer[], $4::text[], $5::json[], $6::boolean[]) WITH ORDINALITY
       AS c (shard, run_id, organisation, kind, body, held, n)
  LEFT JOIN LATERAL (SELECT run.organisation, run.status FROM run WHERE run.id = c.run_id OFFSET 0) r ON true
 CROSS JOIN LATERAL (SELECT c.kind = 'child_retry' AND coalesce(r.status, 'succeeded') = 'succeeded' AS instead) i
 WHERE c.held OR r.organisation IS NOT NULL OR c.kind IN ('slot_ask', 'slot_release', 'child_retry')
 ORDER BY c.n
