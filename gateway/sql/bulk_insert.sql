-- Accepts an operation on every run that matches a filter: it and the list of its runs, all or nothing; gateways work them off. A
-- key that is known writes nothing; one that is committed at the same moment by somebody else is a unique violation, and to be
-- tried again.
-- $1 uuid lowest id  $2 uuid ids below this one  $3 text workflow or NULL  $4 text[] states
-- $5 bool of the active ones: those with (true) or without (false) a task out, or NULL  $6 text q or NULL  $7 uuid exactly this
-- run  $8 text[] label keys  $9 text[] label values  $10 uuid the parent or NULL  $11 bool no child runs, unless by their parent
-- $12 uuid operation  $13 text its kind  $14 json what is asked of each run  $15 json filter as it was asked for
-- $16 text prefix of the API key  $17 text Idempotency-Key or NULL  $18 bytea hash of the request
-- Columns: same request bool, operation uuid, runs int4. Index: run_by_status. Locks: the unique entry of the key.
WITH known AS (
    SELECT id, runs, body_hash FROM bulk_operation WHERE organisation = current_organisation() AND key = $17::text),
kept AS (
    INSERT INTO bulk_run (organisation, operation, run_id)
    SELECT current_organisation(), $12::uuid, m.id
      FROM runs_matching($1, $2, $3, $4::text[], $5, $6, $7, $8::text[], $9::text[], $10, $11) m
     WHERE NOT EXISTS (SELECT FROM known) ORDER BY m.id
    RETURNING 1),
made AS (
    INSERT INTO bulk_operation (organisation, id, kind, filter, body, runs, created_by, key, body_hash, expires_at)
    SELECT current_organisation(), $12, $13, $15::json, $14::json, (SELECT count(*) FROM kept), $16::text, $17, $18::bytea,
           now() + interval '7 days'
     WHERE NOT EXISTS (SELECT FROM known)
    RETURNING id, runs)
SELECT true, id, runs FROM made UNION ALL SELECT body_hash = $18, id, runs FROM known
