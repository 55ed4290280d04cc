-- Slots of concurrency keys that something has gone wrong with: held or waited for by a run that ended 15 s ago or is not
-- there, granted to a run that has not heard of it, or waited for by a run of which the key does not know. Each is put right by
-- the command that should have done it. And, with the first range of a sweep, keys of organisations whose limit has been raised
-- or lifted.
-- $1 smallint[]: shards that count  $2 uuid: runs above this one  $3 uuid: up to this one  $4 boolean: the first of a sweep
-- $5 int: the most running runs that an organisation may have for its own
-- Columns: run uuid; reason smallint (0: it had ended, 1: it had not heard or had not been heard).
-- The range is the one of a slice of open runs (watch_slice), and what holds a slot or waits for one is an open run, at most twice
-- (its workflow's key, its organisation's): so rows are few, however many there are in all. Of what has gone wrong 1,000 of each
-- kind are put right at a time; the next sweep finds the others. Keys of organisations are as many as organisations at most.
-- Indexes: admission_run, open_work_run, primary keys, command_run, admission_order, admission_key_own. No locks.
WITH slots AS MATERIALIZED (
    SELECT a.*, k.shard, k.organisation AS org FROM admission a JOIN admission_key k ON k.key = a.key
     WHERE a.run_id > $2::uuid AND a.run_id <= $3::uuid AND a.since < now() - interval '15 s' AND k.shard = ANY ($1::smallint[])),
kept AS (
    INSERT INTO command (shard, organisation, run_id, kind, body)
    SELECT a.shard, a.org, a.key, 'slot_release', json_build_object('run', a.run_id, 'seq', a.seq + 1)
      FROM slots a
      LEFT JOIN LATERAL (SELECT run.status, run.ended_at FROM run WHERE run.id = a.run_id OFFSET 0) r ON true
     WHERE (r.status IS NULL OR r.ended_at < now() - interval '15 s')
       AND NOT EXISTS (SELECT FROM command c WHERE c.run_id = a.key)
     LIMIT 1000
    RETURNING (body ->> 'run')::uuid AS run_id),
unheard AS (
    INSERT INTO command (shard, organisation, run_id, kind, body)
    SELECT o.shard, o.organisation, o.run_id, 'slot_grant', json_build_object('seq', a.seq)
      FROM slots a JOIN open_work o ON o.run_id = a.run_id AND o.kind = 9 AND o.seq = a.seq
     WHERE a.granted AND NOT EXISTS (SELECT FROM command c WHERE c.run_id = o.run_id)
     LIMIT 1000
    RETURNING run_id),
waiting AS MATERIALIZED (
    SELECT * FROM open_work o WHERE o.run_id > $2::uuid AND o.run_id <= $3::uuid AND o.kind > 0),
unasked AS (
    INSERT INTO command (shard, organisation, run_id, kind, body)
    SELECT s.shard, o.organisation, q.key, 'slot_ask',
           json_strip_nulls(json_build_object('run', o.run_id, 'seq', o.seq, 'as', q.mode, 'limit', q.bound, 'name', q.name,
                                              'workflow', q.workflow))
      FROM waiting o
     CROSS JOIN LATERAL (SELECT (e.data ->> 'key')::uuid AS key, e.data ->> 'as' AS mode, (e.data ->> 'count')::integer AS bound,
                                e.data -> 'name' AS name, CASE WHEN e.data ->> 'waits' = 'workflow' THEN r.workflow END AS workflow
                           FROM event e JOIN run r ON r.id = e.run_id WHERE e.run_id = o.run_id AND e.seq = o.seq OFFSET 0) q
      JOIN slot s ON s.slot = run_slot(q.key)
     WHERE o.shard = ANY ($1::smallint[]) AND o.kind = 9 AND o.opened_at < now() - interval '15 s'
       AND NOT EXISTS (SELECT FROM admission a WHERE a.key = q.key AND a.run_id = o.run_id)
       AND NOT EXISTS (SELECT FROM command c WHERE c.run_id IN (q.key, o.run_id))
     LIMIT 1000
    RETURNING (body ->> 'run')::uuid AS run_id),
room AS (
    INSERT INTO command (shard, organisation, run_id, kind, body)
    SELECT k.shard, k.organisation, k.key, 'slot_release', json_build_object('run', k.key, 'seq', 0)
      FROM admission_key k JOIN organisation o ON o.id = k.organisation
     CROSS JOIN LATERAL (SELECT a.bound FROM admission a WHERE a.key = k.key AND NOT a.granted AND NOT a.told
                          ORDER BY a.number LIMIT 1) a
     WHERE $4::boolean AND k.shard = ANY ($1::smallint[]) AND k.workflow IS NULL AND k.waiting > 0
       AND k.held < coalesce(CASE WHEN o.limits ->> 'max_running_runs' IS NOT NULL
                                  THEN least((o.limits ->> 'max_running_runs')::integer, $5::int) END, a.bound, 2147483647)
       AND NOT EXISTS (SELECT FROM command c WHERE c.run_id = k.key))
SELECT run_id, 0::smallint AS reason FROM kept
UNION ALL SELECT run_id, 1::smallint FROM unheard
UNION ALL SELECT run_id, 1::smallint FROM unasked
