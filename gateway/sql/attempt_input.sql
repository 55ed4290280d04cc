-- What an attempt of a step was given: rendered once, for the first of its attempts, unless it is constant. Of a loop its
-- items, of a workflow step what its child was started with.
-- $1 uuid run  $2 text step  $3 int4 attempt
-- Columns: input json, NULL: it is constant, and in the workflow; no row when there is no such attempt.
-- Index: primary key (all events of the run). No locks.
SELECT (SELECT i.output FROM event i
         WHERE i.run_id = $1 AND i.step = $2 AND i.type IN (20, 22) AND i.output IS NOT NULL
           AND coalesce(nullif(i.attempt, 0), 1) <= $3
         ORDER BY i.seq DESC LIMIT 1)
  FROM event d
 WHERE d.run_id = $1 AND d.organisation = current_organisation() AND d.step = $2 AND d.type IN (20, 22)
   AND coalesce(nullif(d.attempt, 0), 1) = $3
 LIMIT 1
