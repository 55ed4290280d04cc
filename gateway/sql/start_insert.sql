-- Starts runs of one organisation: run, labels, idempotency key, command. A start whose workflow is gone, disabled or has
-- moved to another version, or whose key is taken, writes nothing.
-- $1 uuid[] run  $2 text[] workflow  $3 int[] version that was looked at  $4 smallint[] slot  $5 smallint[] priority
-- $6 timestamptz[] created_at  $7 json[] input  $8 json[] labels  $9 text[] key or NULL  $10 bytea[] body hash
-- $11 text[] queue of the gateway that waits for the run, or NULL  $12 text[] step that the run begins at, or NULL
-- Columns, in the order given: verdict text (made, known, absent, disabled, moved), shard int2.
-- Locks: unique entries of idempotency, in the order of workflow and key: waits for an equal key that is being committed.
WITH judged AS MATERIALIZED (
    SELECT a.*, s.shard,
           CASE WHEN w.name IS NULL THEN 'absent'
                WHEN NOT w.enabled THEN 'disabled'
                WHEN w.version <> a.version THEN 'moved'
                ELSE 'made' END AS verdict
      FROM unnest($1::uuid[], $2::text[], $3::int[], $4::smallint[], $5::smallint[], $6::timestamptz[], $7::json[], $8::json[],
                  $9::text[], $10::bytea[], $11::text[], $12::text[]) WITH ORDINALITY
           AS a (run_id, workflow, version, slot, priority, created_at, input, labels, key, body_hash, reply_to, start_at, n)
      JOIN slot s ON s.slot = a.slot
      LEFT JOIN workflow w ON w.organisation = current_organisation() AND w.name = a.workflow AND w.deleted_at IS NULL),
won AS (
    INSERT INTO idempotency (organisation, scope, key, body_hash, run_id, expires_at)
    SELECT current_organisation(), workflow, key, body_hash, run_id, now() + interval '24 hours'
      FROM judged WHERE verdict = 'made' AND key IS NOT NULL ORDER BY workflow, key
    ON CONFLICT DO NOTHING
    RETURNING run_id),
made AS MATERIALIZED (
    SELECT * FROM judged j
     WHERE verdict = 'made' AND (key IS NULL OR EXISTS (SELECT FROM won WHERE won.run_id = j.run_id))),
runs AS (
    INSERT INTO run (id, organisation, workflow, version, priority, created_at, input, labels, begins)
    SELECT run_id, current_organisation(), workflow, version, priority, created_at, input, labels,
           CASE WHEN start_at IS NOT NULL THEN json_build_object('start_at_step', start_at) END FROM made),
labelled AS (
    INSERT INTO run_label (organisation, key, value, run_id)
    SELECT current_organisation(), l.key, l.value, made.run_id FROM made, json_each_text(made.labels) AS l),
commands AS (
    INSERT INTO command (shard, organisation, run_id, kind, body, reply_to)
    SELECT shard, current_organisation(), run_id, CASE WHEN start_at IS NULL THEN 'start' ELSE 'begin' END,
           CASE WHEN start_at IS NOT NULL THEN json_build_object('start_at_step', start_at) END, reply_to FROM made ORDER BY n)
SELECT CASE WHEN verdict = 'made' AND NOT EXISTS (SELECT FROM made WHERE made.n = j.n) THEN 'known' ELSE verdict END, shard
  FROM judged j ORDER BY n
