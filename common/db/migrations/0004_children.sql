-- Child runs: who waits for a run, and how deep it is. And the views learn what else a step can wait for, that an operator
-- may settle an outcome, and that a step may get another chance.
ALTER TABLE run ADD COLUMN parent_step text;                   -- path of the parent's step that waits for it
ALTER TABLE run ADD COLUMN depth smallint NOT NULL DEFAULT 0;  -- 0: no child
CREATE INDEX run_children ON run (organisation, parent, id) WHERE parent IS NOT NULL;

CREATE OR REPLACE FUNCTION open_work_name(kind smallint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT CASE kind WHEN 1 THEN 'task' WHEN 2 THEN 'backoff' WHEN 3 THEN 'delay' WHEN 4 THEN 'run_timeout'
                        WHEN 5 THEN 'unknown_outcome' WHEN 6 THEN 'items' WHEN 7 THEN 'signal' WHEN 8 THEN 'child'
                        ELSE 'kind ' || kind END $$;

CREATE OR REPLACE VIEW v_runs WITH (security_invoker = true) AS
    SELECT o.name AS organisation, r.id AS run_id, r.workflow, r.version,
           CASE WHEN r.status <> 'active' THEN r.status
                WHEN EXISTS (SELECT FROM open_work w WHERE w.run_id = r.id AND w.kind = 1) THEN 'running'
                ELSE 'waiting' END AS status,
           r.priority, r.created_at, r.started_at, r.ended_at, coalesce(r.ended_at, now()) - r.created_at AS age,
           (SELECT count(*) FROM open_work w WHERE w.run_id = r.id AND w.kind > 0) AS open_work,
           (SELECT count(*) FROM command c WHERE c.run_id = r.id) AS commands,
           EXISTS (SELECT FROM quarantine q WHERE q.run_id = r.id) AS quarantined,
           r.error_code, r.error_step, r.error_text, r.labels, r.parent, r.rerun_of, r.parent_step, r.depth
      FROM run r
      JOIN organisation o ON o.id = r.organisation;

-- What a step's newest event says: an outcome is an event 24..29, or a settlement (31); before it a step is queued, running
-- or waiting. A late result (30) changes nothing here.
CREATE OR REPLACE VIEW v_steps WITH (security_invoker = true) AS
    SELECT o.name AS organisation, s.run_id, s.step,
           CASE WHEN n.type = 31 THEN n.data ->> 'as'
                WHEN n.type >= 24 THEN substr(t.name, 6)
                WHEN n.type = 21 THEN 'running'
                WHEN n.type = 20 THEN 'queued'
                ELSE 'waiting' END AS status,
           s.attempts, s.ready_at, s.started_at, CASE WHEN n.type >= 24 THEN n.at END AS ended_at,
           CASE WHEN n.type >= 24 THEN n.at END - s.ready_at AS duration,
           f.data ->> 'code' AS error_code, f.data ->> 'message' AS error_text
      FROM (SELECT organisation, run_id, step, max(attempt) AS attempts, min(at) AS ready_at,
                   min(at) FILTER (WHERE type = 21) AS started_at,
                   max(seq) FILTER (WHERE type BETWEEN 20 AND 29 OR type = 31) AS newest_seq,
                   max(seq) FILTER (WHERE type IN (23, 25, 26, 29)) AS failed_seq
              FROM event WHERE step IS NOT NULL GROUP BY organisation, run_id, step) s
      JOIN organisation o ON o.id = s.organisation
      JOIN event n ON n.run_id = s.run_id AND n.seq = s.newest_seq
      LEFT JOIN event_type t ON t.type = n.type
      LEFT JOIN event f ON f.run_id = s.run_id AND f.seq = s.failed_seq;
