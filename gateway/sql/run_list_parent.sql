-- A page of the child runs of one run, newest first.
-- $1 uuid lowest id  $2 uuid ids below this one  $3 int4 how many  $4 text workflow or NULL  $5 text status or NULL
-- $6 bool of the active ones: those with (true) or without (false) a task out, or NULL  $7 text q or NULL: workflow that begins
-- so, or exactly the code or the step of the error, or  $8 uuid exactly this run  $9 text[] label keys  $10 text[] label values
-- $11 uuid the parent
-- Columns: id uuid, workflow text, version int4, status text, a task is out bool, priority int2, created_at, started_at,
-- ended_at timestamptz, labels json, parent uuid, rerun_of uuid, error_code, error_step, error_text text, trigger json,
-- parent_step text, depth int2.
-- Index: run_children. No locks.
SELECT r.id, r.workflow, r.version, r.status, w.out, r.priority, r.created_at, r.started_at, r.ended_at, r.labels, r.parent,
       r.rerun_of, r.error_code, r.error_step, r.error_text, CASE WHEN r.trigger IS NOT NULL THEN json_build_object('name', r.trigger -> 'name', 'kind', r.trigger -> 'kind') END, r.parent_step, r.depth
  FROM run r
  CROSS JOIN LATERAL (SELECT r.status = 'active' AND EXISTS (SELECT FROM open_work o WHERE o.run_id = r.id AND o.kind = 1) AS out) w
 WHERE r.organisation = current_organisation() AND r.id >= $1 AND r.id < $2
   AND r.parent = $11
   AND ($4::text IS NULL OR r.workflow = $4)
   AND ($5::text IS NULL OR r.status = $5)
   AND ($6::bool IS NULL OR w.out = $6)
   AND ($7::text IS NULL OR r.id = $8::uuid OR starts_with(r.workflow, $7) OR r.error_code = $7 OR r.error_step = $7)
   AND NOT EXISTS (SELECT FROM unnest($9::text[], $10::text[]) AS l (key, value)
                    WHERE NOT EXISTS (SELECT FROM run_label x
                                       WHERE x.organisation = current_organisation() AND x.key = l.key AND x.value = l.value
                                         AND x.run_id = r.id))
 ORDER BY r.id DESC LIMIT $3
