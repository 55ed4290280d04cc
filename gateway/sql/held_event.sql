-- What an event does at triggers with debounce, throttle or batch, in the transaction that has taken it, and only there: a copy does
-- nothing. What comes of it is told with the event. A workflow that is gone, or disabled, takes nothing.
-- $1 text source  $2 text id  $3 int8 how many arrivals of the organisation may wait
-- Of each trigger: $4 uuid[] run  $5 text[] workflow  $6 text[] trigger  $7 smallint[] slot  $8 smallint[] priority
-- $9 timestamptz[] created_at  $10 json[] input  $11 json[] what expressions read of the trigger  $12 text[] step that the run
-- begins at, or NULL  $13 json[] rule: held_take() in 0038
-- Columns: verdict text, shard int2 of the run. Indexes: primary keys, held_item_organisation. The caller has locked starts and groups.
WITH taken AS MATERIALIZED (
    SELECT a.n, a.workflow, a.trigger, a.run_id, s.shard,
           held_take(a.workflow, a.trigger, a.rule, a.run_id, a.slot, w.version, a.priority, a.created_at, a.start_at, a.input, a.document,
                     NULL, t.total) AS verdict
      FROM unnest($4::uuid[], $5::text[], $6::text[], $7::smallint[], $8::smallint[], $9::timestamptz[], $10::json[], $11::json[],
                  $12::text[], $13::json[]) WITH ORDINALITY
           AS a (run_id, workflow, trigger, slot, priority, created_at, input, document, start_at, rule, n)
      JOIN slot s ON s.slot = a.slot
      JOIN workflow w ON w.organisation = current_organisation() AND w.name = a.workflow AND w.deleted_at IS NULL AND w.enabled
     CROSS JOIN (SELECT held_total($3) AS total) t
     WHERE EXISTS (SELECT FROM incoming_event e
                    WHERE e.organisation = current_organisation() AND e.source = $1 AND e.id = $2
                      AND e.written = pg_current_xact_id()::text::bigint)),
told AS (
    UPDATE incoming_event e
       SET starts = (SELECT json_agg(x.start ORDER BY x.part, x.n)
                       FROM (SELECT 1 AS part, j.n, j.start FROM json_array_elements(e.starts) WITH ORDINALITY AS j (start, n)
                             UNION ALL
                             SELECT 2, n, CASE verdict
                                 WHEN 'started' THEN json_build_object('workflow', workflow, 'trigger', trigger, 'run_id', run_id)
                                 ELSE json_build_object('workflow', workflow, 'trigger', trigger, 'status', verdict) END FROM taken) x)
     WHERE e.organisation = current_organisation() AND e.source = $1 AND e.id = $2 AND EXISTS (SELECT FROM taken))
SELECT verdict, shard FROM taken
