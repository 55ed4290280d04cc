-- A run's output, whole: of the event that ended it. NULL while it has none.
-- $1 uuid run
-- Columns: output json. Primary keys. No locks.
SELECT (SELECT e.output FROM event e WHERE e.run_id = r.id AND e.type BETWEEN 2 AND 6 ORDER BY e.seq DESC LIMIT 1)
  FROM run r WHERE r.id = $1 AND r.organisation = current_organisation()
