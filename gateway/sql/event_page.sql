-- Events of a run behind one, oldest first.
-- $1 uuid run  $2 int4 after this seq  $3 int4 how many
-- Columns: seq int4, at timestamptz, type int2, step text, attempt int2, data json, output's bytes int4 (0: none),
-- output json when it is short enough to be shown. Index: primary key. No locks.
-- A large output is unpacked once, to be measured (OFFSET 0 keeps the planner from doing it for each use).
SELECT e.seq, e.at, e.type, e.step, e.attempt, e.data, coalesce(o.bytes, 0), CASE WHEN o.bytes <= 4096 THEN e.output END
  FROM event e CROSS JOIN LATERAL (SELECT octet_length(e.output::text) AS bytes OFFSET 0) o
 WHERE e.run_id = $1 AND e.seq > $2 AND e.organisation = current_organisation()
 ORDER BY e.seq LIMIT $3
