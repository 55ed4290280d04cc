-- Tells parents once more how children have ended that they wait for. It is the command that the child's end wrote; who does
-- not wait (any more) takes no notice of it. $1 uuid[] parents  $2 smallint[] their shards
-- Columns: run uuid (the parent). Indexes: primary keys, run_children, command_run. No locks.
INSERT INTO command (shard, organisation, run_id, kind, body)
SELECT o.shard, o.organisation, o.run_id, 'child_ended',
       json_build_object('child', k.id, 'step', o.step, 'status', k.status, 'retries',
           (SELECT coalesce(max((b.data ->> 'count')::int4), 0) FROM event b WHERE b.run_id = k.id AND b.type = 12),
                         'output', e.output, 'error',
           CASE WHEN k.error_code IS NOT NULL
                THEN json_build_object('code', k.error_code, 'message', k.error_text, 'step', k.error_step) END)
  FROM unnest($1::uuid[], $2::smallint[]) AS a (run_id, shard)
  JOIN open_work o ON o.shard = a.shard AND o.run_id = a.run_id AND o.kind = 8
 CROSS JOIN LATERAL (SELECT * FROM run WHERE run.organisation = o.organisation AND run.parent = o.run_id AND run.parent_step = o.step
                      ORDER BY run.id DESC LIMIT 1) k
  LEFT JOIN LATERAL (SELECT event.output FROM event WHERE event.run_id = k.id AND event.type IN (2, 3, 4, 5, 6, 10, 11) ORDER BY event.seq DESC LIMIT 1) e ON true
 WHERE k.ended_at < now() - interval '15 s' AND NOT EXISTS (SELECT FROM command c WHERE c.run_id = o.run_id)
RETURNING run_id
