-- A loop that goes on after a retry with the items that it began with, or a child run that is retried with its parent (34): the
-- step waits again.
CREATE OR REPLACE VIEW v_steps WITH (security_invoker = true) AS
    SELECT o.name AS organisation, s.run_id, s.step,
           CASE WHEN n.type IN (31, 33) THEN n.data ->> 'as'
                WHEN n.type = 32 THEN 'pending'
                WHEN n.type = 34 AND right(s.step, 1) = ']' THEN 'running'
                WHEN n.type = 34 THEN 'waiting'
                WHEN n.type >= 24 THEN substr(t.name, 6)
                WHEN n.type = 21 THEN 'running'
                WHEN n.type = 20 THEN 'queued'
                ELSE 'waiting' END AS status,
           s.attempts, s.ready_at, s.started_at, CASE WHEN n.type >= 24 AND n.type NOT IN (32, 34) THEN n.at END AS ended_at,
           CASE WHEN n.type >= 24 AND n.type NOT IN (32, 34) THEN n.at END - s.ready_at AS duration,
           f.data ->> 'code' AS error_code, f.data ->> 'message' AS error_text
      FROM (SELECT organisation, run_id, step, max(attempt) AS attempts, min(at) AS ready_at,
                   min(at) FILTER (WHERE type = 21) AS started_at,
                   max(seq) FILTER (WHERE type BETWEEN 20 AND 29 OR type BETWEEN 31 AND 34) AS newest_seq,
                   max(seq) FILTER (WHERE type IN (23, 25, 26, 29)) AS failed_seq
              FROM event WHERE step IS NOT NULL GROUP BY organisation, run_id, step) s
      JOIN organisation o ON o.id = s.organisation
      JOIN event n ON n.run_id = s.run_id AND n.seq = s.newest_seq
      LEFT JOIN event_type t ON t.type = n.type
      LEFT JOIN event f ON f.run_id = s.run_id AND f.seq = s.failed_seq;
