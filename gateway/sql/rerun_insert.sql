-- Starts one run that does again what another did: run, labels, idempotency key, and the command that says which outcomes it
-- is given, with their bodies: copied now, because the old run may be gone before the new one begins.
-- $1 uuid run  $2 text workflow  $3 int4 version  $4 int2 slot  $5 int2 priority  $6 timestamptz created_at  $7 json input
-- $8 json labels  $9 text key or NULL  $10 bytea body hash or NULL  $11 text queue of the gateway that waits for the run, or NULL
-- $12 uuid the old run  $13 json what of it is done, for the run's row, or NULL  $14 json given outcomes or NULL: a list of {step, as, branch, code,
-- message, detail} with output, or seq: the event that has it, or items: those of a loop's items, null for none
-- $15 uuid operation on many runs that asks for it, or NULL: it is done once for its row of the old run, and not when it has been cancelled
-- Columns: verdict text (made, known, absent, disabled), shard int2.
-- Locks: unique entry of idempotency: waits for an equal key that is being committed; the operation's row. Indexes: primary keys.
WITH judged AS MATERIALIZED (
    SELECT s.shard, o.trigger,
           CASE WHEN w.name IS NULL OR v.version IS NULL OR o.id IS NULL THEN 'absent'
                WHEN NOT w.enabled THEN 'disabled'
                ELSE 'made' END AS verdict
      FROM slot s
      LEFT JOIN workflow w ON w.organisation = current_organisation() AND w.name = $2 AND w.deleted_at IS NULL
      LEFT JOIN workflow_version v ON v.organisation = current_organisation() AND v.workflow = $2 AND v.version = $3
      LEFT JOIN run o ON o.id = $12 AND o.organisation = current_organisation()
     WHERE s.slot = $4),
won AS (
    INSERT INTO idempotency (organisation, scope, key, body_hash, run_id, expires_at)
    SELECT current_organisation(), $2, $9, $10, $1, now() + interval '24 hours' FROM judged WHERE verdict = 'made' AND $9 IS NOT NULL
    ON CONFLICT DO NOTHING
    RETURNING run_id),
counted AS (
    UPDATE bulk_run SET new_run = $1
     WHERE organisation = current_organisation() AND operation = $15::uuid AND run_id = $12 AND new_run IS NULL AND code IS NULL
       AND EXISTS (SELECT FROM bulk_operation o WHERE o.organisation = current_organisation() AND o.id = $15 AND o.cancelled_at IS NULL)
       AND EXISTS (SELECT FROM judged WHERE verdict = 'made')
    RETURNING run_id),
made AS MATERIALIZED (
    SELECT * FROM judged WHERE verdict = 'made' AND ($9 IS NULL OR EXISTS (SELECT FROM won))
       AND ($15::uuid IS NULL OR EXISTS (SELECT FROM counted))),
runs AS (
    INSERT INTO run (id, organisation, workflow, version, priority, created_at, input, labels, trigger, rerun_of, begins)
    SELECT $1, current_organisation(), $2, $3, $5, $6, $7, $8, trigger, $12, $13 FROM made),
labelled AS (
    INSERT INTO run_label (organisation, key, value, run_id)
    SELECT current_organisation(), l.key, l.value, $1 FROM made, json_each_text($8) AS l),
given AS (
    SELECT json_agg(json_build_object('step', g.one -> 'step', 'as', g.one -> 'as', 'branch', g.one -> 'branch', 'code', g.one -> 'code',
                        'message', g.one -> 'message', 'detail', g.one -> 'detail', 'output',
               CASE WHEN g.one -> 'items' IS NOT NULL THEN
                    (SELECT json_agg(b.output ORDER BY i.n)
                       FROM json_array_elements_text(g.one -> 'items') WITH ORDINALITY AS i (seq, n)
                       LEFT JOIN LATERAL (SELECT e.output FROM event e WHERE e.run_id = $12 AND e.seq = i.seq::int4
                                             AND e.organisation = current_organisation() OFFSET 0) b ON true)
                    WHEN g.one -> 'seq' IS NOT NULL THEN
                    (SELECT e.output FROM event e WHERE e.run_id = $12 AND e.seq = (g.one ->> 'seq')::int4
                        AND e.organisation = current_organisation())
                    ELSE g.one -> 'output' END) ORDER BY g.n) AS list
      FROM json_array_elements($14::json) WITH ORDINALITY AS g (one, n) WHERE EXISTS (SELECT FROM made)),
commands AS (
    INSERT INTO command (shard, organisation, run_id, kind, body, reply_to)
    SELECT shard, current_organisation(), $1, CASE WHEN $14::json IS NULL THEN 'start' ELSE 'begin' END,
           CASE WHEN $14::json IS NOT NULL THEN json_build_object('given', (SELECT list FROM given)) END, $11 FROM made)
SELECT CASE WHEN verdict = 'made' AND NOT EXISTS (SELECT FROM made) THEN 'known' ELSE verdict END, shard FROM judged
