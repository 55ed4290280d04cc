-- What a webhook's answer is made of: how its run ended, and with what.
-- $1 uuid run
-- Columns: status text, version int4, created_at timestamptz, output json or NULL. Primary keys. No locks.
SELECT r.status, r.version, r.created_at,
       (SELECT e.output FROM event e WHERE e.run_id = r.id AND (e.type BETWEEN 2 AND 6 OR e.type BETWEEN 10 AND 12)
         ORDER BY e.seq DESC LIMIT 1)
  FROM run r WHERE r.id = $1 AND r.organisation = current_organisation()
