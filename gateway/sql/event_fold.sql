-- Events of a run behind one, oldest first, as the fold needs them: bodies of iterations stay where they are.
-- $1 uuid run  $2 int4 after this seq  $3 int4 how many
-- Columns: seq int4, at timestamptz, type int2, step text, attempt int2, data json, output's length int4 (0: none),
-- output json when it is short enough to be shown and of the run or one of its own steps. Index: primary key. No locks.
SELECT e.seq, e.at, e.type, e.step, e.attempt, e.data, coalesce(octet_length(e.output::text), 0),
       CASE WHEN octet_length(e.output::text) <= 4096 AND coalesce(strpos(e.step, '['), 0) = 0 THEN e.output END
  FROM event e
 WHERE e.run_id = $1 AND e.seq > $2 AND e.organisation = current_organisation()
 ORDER BY e.seq LIMIT $3
