-- Starts runs of one organisation: run, labels, idempotency key, command; of a webhook its nonce and its line of the delivery log,
-- too. A start whose workflow is gone, disabled or has moved to another version, whose delivery was seen before, or whose key
-- is taken, writes nothing.
-- $1 uuid[] run  $2 text[] workflow  $3 int[] version that was looked at  $4 smallint[] slot  $5 smallint[] priority
-- $6 timestamptz[] created_at  $7 json[] input  $8 json[] labels  $9 text[] key or NULL  $10 bytea[] body hash
-- $11 text[] queue of the gateway that waits for the run, or NULL  $12 text[] step that the run begins at, or NULL
-- $13 json[] trigger or NULL  $14 text[] scope of the nonce  $15 text[] nonce or NULL  $16 int[] seconds that it is kept
-- $17 json[] delivery, or NULL: {id, at, trigger, address, request, body_bytes, excerpt, took_us, redelivered_from, old_secret, audit}
-- Columns, in the order given: verdict text (made, known, replayed, absent, disabled, moved), shard int2.
-- Locks: unique entries of delivery_nonce, in order, then of idempotency, in the order of workflow and key: waits for an equal
-- one that is being committed.
WITH judged AS MATERIALIZED (
    SELECT a.*, s.shard,
           CASE WHEN w.name IS NULL THEN 'absent'
                WHEN NOT w.enabled THEN 'disabled'
                WHEN w.version <> a.version THEN 'moved'
                ELSE 'made' END AS verdict
      FROM unnest($1::uuid[], $2::text[], $3::int[], $4::smallint[], $5::smallint[], $6::timestamptz[], $7::json[], $8::json[],
                  $9::text[], $10::bytea[], $11::text[], $12::text[], $13::json[], $14::text[], $15::text[], $16::int[],
                  $17::json[]) WITH ORDINALITY
           AS a (run_id, workflow, version, slot, priority, created_at, input, labels, key, body_hash, reply_to, start_at,
                 trigger, scope, nonce, kept_s, delivery, n)
      JOIN slot s ON s.slot = a.slot
      LEFT JOIN workflow w ON w.organisation = current_organisation() AND w.name = a.workflow AND w.deleted_at IS NULL),
unseen AS (
    INSERT INTO delivery_nonce (organisation, scope, nonce, run_id, expires_at)
    SELECT current_organisation(), scope, nonce, run_id, now() + make_interval(secs => kept_s)
      FROM judged WHERE verdict = 'made' AND nonce IS NOT NULL ORDER BY scope, nonce
    ON CONFLICT DO NOTHING
    RETURNING run_id),
fresh AS MATERIALIZED (
    SELECT * FROM judged j
     WHERE verdict = 'made' AND (nonce IS NULL OR EXISTS (SELECT FROM unseen WHERE unseen.run_id = j.run_id))),
won AS (
    INSERT INTO idempotency (organisation, scope, key, body_hash, run_id, expires_at)
    SELECT current_organisation(), workflow, key, body_hash, run_id, now() + interval '24 hours'
      FROM fresh WHERE key IS NOT NULL ORDER BY workflow, key
    ON CONFLICT DO NOTHING
    RETURNING run_id),
made AS MATERIALIZED (
    SELECT * FROM fresh f WHERE key IS NULL OR EXISTS (SELECT FROM won WHERE won.run_id = f.run_id)),
runs AS (
    INSERT INTO run (id, organisation, workflow, version, priority, created_at, input, labels, begins, trigger)
    SELECT run_id, current_organisation(), workflow, version, priority, created_at, input, labels,
           CASE WHEN start_at IS NOT NULL THEN json_build_object('start_at_step', start_at) END, trigger FROM made),
labelled AS (
    INSERT INTO run_label (organisation, key, value, run_id)
    SELECT current_organisation(), l.key, l.value, made.run_id FROM made, json_each_text(made.labels) AS l),
delivered AS (
    INSERT INTO delivery (organisation, id, at, workflow, trigger, status, stage, reason, address, request, body_bytes, excerpt,
                          took_us, run_id, redelivered_from, old_secret, audit)
    SELECT current_organisation(), d.id, d.at, made.workflow, d.trigger, 202, 'start', 'accepted', d.address, d.request,
           d.body_bytes, d.excerpt, d.took_us, made.run_id, d.redelivered_from, d.old_secret, d.audit
      FROM made, json_to_record(made.delivery)
           AS d (id uuid, at timestamptz, trigger text, address text, request json, body_bytes integer, excerpt text,
                 took_us integer, redelivered_from uuid, old_secret boolean, audit text)
     WHERE made.delivery IS NOT NULL),
commands AS (
    INSERT INTO command (shard, organisation, run_id, kind, body, reply_to)
    SELECT shard, current_organisation(), run_id, CASE WHEN start_at IS NULL THEN 'start' ELSE 'begin' END,
           CASE WHEN start_at IS NOT NULL THEN json_build_object('start_at_step', start_at) END, reply_to FROM made ORDER BY n)
SELECT CASE WHEN verdict <> 'made' OR EXISTS (SELECT FROM made WHERE made.n = j.n) THEN verdict
            WHEN EXISTS (SELECT FROM fresh WHERE fresh.n = j.n) THEN 'known'
            ELSE 'replayed' END, shard
  FROM judged j ORDER BY n
