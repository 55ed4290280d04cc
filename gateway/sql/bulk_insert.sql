-- Asks the same of every run that matches a filter: the operation, its runs and a command for each, all or nothing. More than
-- $11 runs, or a key that is known, write nothing; a key that is committed at the same moment by somebody else is a unique
-- violation, and to be tried again.
-- $1 uuid lowest id  $2 uuid ids below this one  $3 text workflow or NULL  $4 text[] states
-- $5 bool of the active ones: those with (true) or without (false) a task out, or NULL  $6 text q or NULL: workflow that begins
-- so, or exactly the code or the step of the error, or  $7 uuid exactly this run  $8 text[] label keys  $9 text[] label values
-- $10 uuid the parent or NULL  $11 int4 at most so many
-- $12 uuid operation  $13 text kind of the commands  $14 json their body  $15 json filter as it was asked for
-- $16 text prefix of the API key  $17 text Idempotency-Key or NULL  $18 bytea hash of the request
-- Columns: known bool, same request bool, operation uuid, runs int4, shards that have commands text, a comma between. Runs
-- beyond $11: that many and one more, and no operation. Index: run_by_status. Locks: the unique entry of the key.
WITH known AS (
    SELECT id, runs, body_hash FROM bulk_operation WHERE organisation = current_organisation() AND key = $17::text),
target AS MATERIALIZED (
    SELECT matching.id, s.shard
      FROM (SELECT r.id
              FROM run r
             CROSS JOIN LATERAL (SELECT r.status = 'active' AND EXISTS (SELECT FROM open_work o WHERE o.run_id = r.id AND o.kind = 1) AS out) w
             WHERE r.organisation = current_organisation() AND r.id >= $1 AND r.id < $2
           AND r.status = ANY ($4::text[])
           AND ($3::text IS NULL OR r.workflow = $3)
           AND ($5::bool IS NULL OR w.out = $5)
           AND ($6::text IS NULL OR r.id = $7::uuid OR starts_with(r.workflow, $6) OR r.error_code = $6 OR r.error_step = $6)
           AND NOT EXISTS (SELECT FROM unnest($8::text[], $9::text[]) AS l (key, value)
                            WHERE NOT EXISTS (SELECT FROM run_label x
                                               WHERE x.organisation = current_organisation() AND x.key = l.key
                                                 AND x.value = l.value AND x.run_id = r.id))
           AND ($10::uuid IS NULL OR r.parent = $10)
               AND NOT EXISTS (SELECT FROM known)
             ORDER BY r.id LIMIT $11::int4 + 1) matching
      JOIN slot s ON s.slot = ('x' || right(matching.id::text, 3))::bit(12)::int),
made AS (
    INSERT INTO bulk_operation (organisation, id, kind, filter, runs, created_by, key, body_hash, expires_at)
    SELECT current_organisation(), $12::uuid, $13, $15::json, count(*), $16::text, $17, $18::bytea, now() + interval '7 days'
      FROM target HAVING count(*) <= $11 AND NOT EXISTS (SELECT FROM known)
    RETURNING id, runs),
asked AS (
    INSERT INTO command (shard, organisation, run_id, kind, body)
    SELECT t.shard, current_organisation(), t.id, $13::text, $14::json FROM target t, made ORDER BY t.id
    RETURNING id, run_id, shard),
kept AS (
    INSERT INTO bulk_run (organisation, operation, run_id, command, after_seq)
    SELECT current_organisation(), $12, run_id, id,
           coalesce((SELECT e.seq FROM event e WHERE e.run_id = asked.run_id ORDER BY e.seq DESC LIMIT 1), 0) FROM asked)
SELECT false, true, (SELECT id FROM made), (SELECT count(*)::int4 FROM target),
       (SELECT string_agg(DISTINCT shard::text, ',') FROM asked)
 WHERE NOT EXISTS (SELECT FROM known)
UNION ALL SELECT true, body_hash = $18, id, runs, NULL FROM known
