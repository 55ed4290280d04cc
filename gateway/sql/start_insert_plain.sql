-- Starts runs of one organisation that have no labels, no key and no delivery, and begin where their workflow does: run and
-- command. A start whose workflow is gone, disabled or has moved to another version writes nothing. The same as start_insert.sql,
-- which takes most of its time to get ready for what is not there.
-- $1 uuid[] run  $2 text[] workflow  $3 int[] version that was looked at  $4 smallint[] slot  $5 smallint[] priority
-- $6 timestamptz[] created_at  $7 json[] input  $8 text[] queue of the gateway that waits for the run, or NULL
-- Columns, in the order given: verdict text (made, absent, disabled, moved), shard int2.
WITH judged AS MATERIALIZED (
    SELECT a.*, s.shard,
           CASE WHEN w.name IS NULL THEN 'absent'
                WHEN NOT w.enabled THEN 'disabled'
                WHEN w.version <> a.version THEN 'moved'
                ELSE 'made' END AS verdict
      FROM unnest($1::uuid[], $2::text[], $3::int[], $4::smallint[], $5::smallint[], $6::timestamptz[], $7::json[], $8::text[])
           WITH ORDINALITY AS a (run_id, workflow, version, slot, priority, created_at, input, reply_to, n)
      JOIN slot s ON s.slot = a.slot
      LEFT JOIN workflow w ON w.organisation = current_organisation() AND w.name = a.workflow AND w.deleted_at IS NULL),
runs AS (
    INSERT INTO run (id, organisation, workflow, version, priority, created_at, input)
    SELECT run_id, current_organisation(), workflow, version, priority, created_at, input FROM judged WHERE verdict = 'made'),
commands AS (
    INSERT INTO command (shard, organisation, run_id, kind, reply_to)
    SELECT shard, current_organisation(), run_id, 'start', reply_to FROM judged WHERE verdict = 'made' ORDER BY n)
SELECT verdict, shard FROM judged ORDER BY n
