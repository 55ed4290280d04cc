-- What people ask a run engine, as views. They show what the reader's role may see (security_invoker), so that
-- row-level security holds for them too. For one run or a time range: a search over all events is not what they are for.

-- Names of event numbers, kept in step with the release by the migrator.
CREATE TABLE event_type (
    type         smallint PRIMARY KEY,
    name         text NOT NULL UNIQUE
);

CREATE FUNCTION open_work_name(kind smallint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT CASE kind WHEN 1 THEN 'task' WHEN 2 THEN 'backoff' WHEN 3 THEN 'delay' WHEN 4 THEN 'run_timeout'
                        WHEN 5 THEN 'unknown_outcome' ELSE 'kind ' || kind END $$;

CREATE VIEW v_open_work WITH (security_invoker = true) AS
    SELECT o.name AS organisation, w.run_id, r.workflow, w.step, open_work_name(w.kind) AS kind, w.attempt, w.dispatch,
           w.pool, w.priority, w.opened_at, now() - w.opened_at AS age, w.due_at, w.reason, w.shard, s.owner AS scheduler
      FROM open_work w
      JOIN run r ON r.id = w.run_id
      JOIN organisation o ON o.id = w.organisation
      LEFT JOIN shard s ON s.shard = w.shard;

-- An active run is running while a task of it is out, else it waits.
CREATE VIEW v_runs WITH (security_invoker = true) AS
    SELECT o.name AS organisation, r.id AS run_id, r.workflow, r.version,
           CASE WHEN r.status <> 'active' THEN r.status
                WHEN EXISTS (SELECT FROM open_work w WHERE w.run_id = r.id AND w.kind = 1) THEN 'running'
                ELSE 'waiting' END AS status,
           r.priority, r.created_at, r.started_at, r.ended_at, coalesce(r.ended_at, now()) - r.created_at AS age,
           (SELECT count(*) FROM open_work w WHERE w.run_id = r.id AND w.kind > 0) AS open_work,
           (SELECT count(*) FROM command c WHERE c.run_id = r.id) AS commands,
           EXISTS (SELECT FROM quarantine q WHERE q.run_id = r.id) AS quarantined,
           r.error_code, r.error_step, r.error_text, r.labels, r.parent, r.rerun_of
      FROM run r
      JOIN organisation o ON o.id = r.organisation;

CREATE VIEW v_events WITH (security_invoker = true) AS
    SELECT o.name AS organisation, e.run_id, e.seq, e.at, coalesce(t.name, 'type ' || e.type) AS type, e.step, e.attempt,
           e.data, e.output
      FROM event e
      JOIN organisation o ON o.id = e.organisation
      LEFT JOIN event_type t ON t.type = e.type;

-- Steps as their events tell them. An outcome is an event 24..29; before it a step is queued, running or waiting.
CREATE VIEW v_steps WITH (security_invoker = true) AS
    SELECT o.name AS organisation, s.run_id, s.step,
           CASE WHEN s.outcome IS NOT NULL THEN substr(t.name, 6)
                WHEN s.newest = 21 THEN 'running'
                WHEN s.newest = 20 THEN 'queued'
                ELSE 'waiting' END AS status,
           s.attempts, s.ready_at, s.started_at, s.ended_at, s.ended_at - s.ready_at AS duration,
           f.data ->> 'code' AS error_code, f.data ->> 'message' AS error_text
      FROM (SELECT organisation, run_id, step, max(attempt) AS attempts, min(at) AS ready_at,
                   min(at) FILTER (WHERE type = 21) AS started_at,
                   max(at) FILTER (WHERE type BETWEEN 24 AND 29) AS ended_at,
                   max(type) FILTER (WHERE type BETWEEN 24 AND 29) AS outcome,
                   (array_agg(type ORDER BY seq DESC) FILTER (WHERE type BETWEEN 20 AND 23))[1] AS newest,
                   max(seq) FILTER (WHERE type IN (23, 25, 26, 29)) AS failed_seq
              FROM event WHERE step IS NOT NULL GROUP BY organisation, run_id, step) s
      JOIN organisation o ON o.id = s.organisation
      LEFT JOIN event_type t ON t.type = s.outcome
      LEFT JOIN event f ON f.run_id = s.run_id AND f.seq = s.failed_seq;

GRANT SELECT ON event_type, v_runs, v_steps, v_events, v_open_work TO ropewalk_gateway, ropewalk_scheduler;
