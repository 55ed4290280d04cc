-- A run's output, whole: of the event that ended it. NULL while it has none, also after it has been opened again.
-- $1 uuid run
-- Columns: output json. Primary keys. No locks.
SELECT (SELECT e.output FROM event e WHERE e.run_id = r.id AND (e.type BETWEEN 2 AND 6 OR e.type BETWEEN 10 AND 12)
         ORDER BY e.seq DESC LIMIT 1)
  FROM run r WHERE r.id = $1 AND r.organisation = current_organisation()
