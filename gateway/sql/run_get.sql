-- One run: its row, whether its shard is quarantined for it, and how many commands wait.
-- $1 uuid run
-- Columns: workflow text, version int4, status text, priority int2, created_at, started_at, ended_at timestamptz,
-- input's bytes int4, input json when short, labels json, trigger json, parent uuid, rerun_of uuid, error_code, error_step,
-- error_text text, running bool (a task is out), commands int8, quarantined bool, reason of the quarantine text, parent_step
-- text, depth int2, begins json, its reruns json (ids, the newest 20).
-- Indexes: primary keys, open_work_run, command_run. No locks. In front of it: pg_batch_organisation_by_index. A subquery with
-- LIMIT 1 where EXISTS would do: that may be answered by reading all of open work.
SELECT r.workflow, r.version, r.status, r.priority, r.created_at, r.started_at, r.ended_at, i.bytes,
       CASE WHEN i.bytes <= 4096 THEN r.input END, r.labels,
       CASE WHEN r.trigger IS NOT NULL THEN json_strip_nulls(json_build_object('name', r.trigger -> 'name', 'kind', r.trigger -> 'kind',
           'schedule', r.trigger -> 'schedule', 'nominal_at', r.trigger -> 'nominal_at', 'manual', r.trigger -> 'manual',
           'event', CASE WHEN r.trigger -> 'event' IS NOT NULL THEN json_build_object('id', r.trigger #> '{event,id}',
                         'source', r.trigger #> '{event,source}', 'type', r.trigger #> '{event,type}') END)) END,
       r.parent, r.rerun_of, r.error_code,
       r.error_step, r.error_text, (SELECT true FROM open_work w WHERE w.run_id = r.id AND w.kind = 1 LIMIT 1) IS NOT NULL,
       (SELECT count(*) FROM command c WHERE c.run_id = r.id),
       q.run_id IS NOT NULL, q.reason, r.parent_step, r.depth, r.begins,
       (SELECT json_agg(x.run_id ORDER BY x.run_id DESC)
          FROM (SELECT k.run_id FROM rerun k WHERE k.of_run = r.id ORDER BY k.run_id DESC LIMIT 20) x)
  FROM run r CROSS JOIN LATERAL (SELECT octet_length(r.input::text) AS bytes OFFSET 0) i LEFT JOIN quarantine q ON q.run_id = r.id
 WHERE r.id = $1 AND r.organisation = current_organisation()
