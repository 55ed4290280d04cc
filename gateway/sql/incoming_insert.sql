-- Takes an event, and starts the runs that it sets off. When it is there already nothing is written; neither when a workflow
-- has moved to another version, which the caller looks at first. A workflow that is gone, or disabled, starts nothing.
-- $1 text source  $2 text id  $3 text type  $4 text subject or NULL  $5 json event  $6 json[] what failed, as `starts` has it
-- Of the runs: $7 uuid[] run  $8 text[] workflow  $9 text[] trigger  $10 int[] version that was looked at  $11 smallint[] slot
-- $12 smallint[] priority  $13 timestamptz[] created_at  $14 json[] input  $15 json[] what expressions read of the trigger
-- $16 text[] step that the run begins at, or NULL
-- Columns: moved bool, taken bool (false: it was there), shards text of the runs (with a comma between). Indexes: primary keys.
-- Locks: the unique entry of the event: waits for an equal one that is being committed. The caller has locked the starts.
WITH judged AS MATERIALIZED (
    SELECT a.*, s.shard, w.name IS NOT NULL AND w.enabled AS good, w.version IS DISTINCT FROM a.version AS moved
      FROM unnest($7::uuid[], $8::text[], $9::text[], $10::int[], $11::smallint[], $12::smallint[], $13::timestamptz[], $14::json[],
                  $15::json[], $16::text[]) WITH ORDINALITY
           AS a (run_id, workflow, trigger, version, slot, priority, created_at, input, document, start_at, n)
      JOIN slot s ON s.slot = a.slot
      LEFT JOIN workflow w ON w.organisation = current_organisation() AND w.name = a.workflow AND w.deleted_at IS NULL),
verdict AS MATERIALIZED (
    SELECT coalesce(bool_or(good AND moved), false) AS moved FROM judged),
told AS (
    SELECT coalesce(json_agg(t.start ORDER BY t.part, t.n), '[]'::json) AS starts
      FROM (SELECT 1 AS part, n, json_build_object('workflow', workflow, 'trigger', trigger, 'run_id', run_id) AS start FROM judged WHERE good
            UNION ALL
            SELECT 2, f.n, f.start FROM unnest($6::json[]) WITH ORDINALITY AS f (start, n)) t),
new AS (
    INSERT INTO incoming_event (organisation, source, id, type, subject, event, starts)
    SELECT current_organisation(), $1, $2, $3, $4, $5, told.starts FROM told, verdict WHERE NOT verdict.moved
    ON CONFLICT DO NOTHING
    RETURNING number),
made AS MATERIALIZED (
    SELECT judged.* FROM judged, new WHERE judged.good),
runs AS (
    INSERT INTO run (id, organisation, workflow, version, priority, created_at, input, labels, begins, trigger)
    SELECT run_id, current_organisation(), workflow, version, priority, created_at, input, '{}'::json,
           CASE WHEN start_at IS NOT NULL THEN json_build_object('start_at_step', start_at) END, document FROM made),
commands AS (
    INSERT INTO command (shard, organisation, run_id, kind, body)
    SELECT shard, current_organisation(), run_id, CASE WHEN start_at IS NULL THEN 'start' ELSE 'begin' END,
           CASE WHEN start_at IS NOT NULL THEN json_build_object('start_at_step', start_at) END FROM made ORDER BY n)
SELECT verdict.moved, EXISTS (SELECT FROM new), (SELECT string_agg(DISTINCT shard::text, ',') FROM made) FROM verdict
