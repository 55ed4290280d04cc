-- A page of runs that are looked for, newest first: a run itself, or those of workflows whose names begin so, or that ended with
-- such an error, or in such a step.
-- $1 uuid lowest id  $2 uuid ids below this one  $3 int4 how many  $4 text what is looked for  $5 uuid the same as a run, or NULL
-- $6 text status or NULL  $7 bool of the active ones: those with (true) or without (false) a task out, or NULL
-- Columns: id uuid, workflow text, version int4, status text, a task is out bool, priority int2, created_at, started_at,
-- ended_at timestamptz, labels json, parent uuid, rerun_of uuid, error_code, error_step, error_text text, trigger json,
-- parent_step text, depth int2.
-- Each way to be found has an index that gives its newest: primary key, run_by_error, run_by_error_step, run_by_workflow.
WITH found AS (
    SELECT $5::uuid AS id
    UNION
    (SELECT r.id FROM run r
      WHERE r.organisation = current_organisation() AND r.error_code = $4 AND r.id >= $1 AND r.id < $2 AND ($6::text IS NULL OR r.status = $6)
        AND ($7::bool IS NULL OR EXISTS (SELECT FROM open_work o WHERE o.run_id = r.id AND o.kind = 1) = $7)
      ORDER BY r.id DESC LIMIT $3)
    UNION
    (SELECT r.id FROM run r
      WHERE r.organisation = current_organisation() AND r.error_step = $4 AND r.id >= $1 AND r.id < $2 AND ($6::text IS NULL OR r.status = $6)
        AND ($7::bool IS NULL OR EXISTS (SELECT FROM open_work o WHERE o.run_id = r.id AND o.kind = 1) = $7)
      ORDER BY r.id DESC LIMIT $3)
    UNION
    (SELECT x.id FROM workflow w
      CROSS JOIN LATERAL (
            SELECT r.id FROM run r
             WHERE r.organisation = current_organisation() AND r.workflow = w.name AND r.id >= $1 AND r.id < $2
               AND ($6::text IS NULL OR r.status = $6)
               AND ($7::bool IS NULL OR EXISTS (SELECT FROM open_work o WHERE o.run_id = r.id AND o.kind = 1) = $7)
             ORDER BY r.id DESC LIMIT $3) x
      WHERE w.organisation = current_organisation() AND starts_with(w.name, $4)))
SELECT r.id, r.workflow, r.version, r.status, w.out, r.priority, r.created_at, r.started_at, r.ended_at, r.labels, r.parent,
       r.rerun_of, r.error_code, r.error_step, r.error_text, CASE WHEN r.trigger IS NOT NULL THEN json_build_object('name', r.trigger -> 'name', 'kind', r.trigger -> 'kind') END, r.parent_step, r.depth
  FROM found JOIN run r ON r.id = found.id AND r.organisation = current_organisation()
  CROSS JOIN LATERAL (SELECT r.status = 'active' AND EXISTS (SELECT FROM open_work o WHERE o.run_id = r.id AND o.kind = 1) AS out) w
 WHERE r.id >= $1 AND r.id < $2 AND ($6::text IS NULL OR r.status = $6) AND ($7::bool IS NULL OR w.out = $7)
 ORDER BY r.id DESC LIMIT $3
