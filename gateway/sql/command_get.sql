-- What became of a command.
-- $1 uuid run  $2 int8 number
-- Columns: waiting bool, held bool, verdict's type int2 or NULL, its data json, at timestamptz. Indexes: primary keys.
SELECT c.id IS NOT NULL, coalesce(c.held, false), e.type, e.data, e.at
  FROM run r
  LEFT JOIN command c ON c.id = $2 AND c.run_id = r.id AND c.organisation = r.organisation
  LEFT JOIN LATERAL (SELECT e.type, e.data, e.at FROM event e
                      WHERE e.run_id = r.id AND e.type IN (40, 41) AND (e.data ->> 'command')::int8 = $2
                      ORDER BY e.seq LIMIT 1) e ON true
 WHERE r.id = $1 AND r.organisation = current_organisation()
