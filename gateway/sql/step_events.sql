-- All events of certain steps of a run, oldest first.
-- $1 uuid run  $2 text[] paths
-- Columns: seq int4, at timestamptz, type int2, step text, attempt int2, data json, output's length int4 (0: none), output
-- json when it is short enough to be shown; both of the event that `ref` names. Index: primary key (all events of the run).
-- No locks.
SELECT e.seq, e.at, e.type, e.step, e.attempt, e.data, coalesce(octet_length(b.output), 0),
       CASE WHEN octet_length(b.output) <= 4096 THEN b.output::json END
  FROM event e
  LEFT JOIN LATERAL (SELECT o.output::text AS output FROM event o
                      WHERE o.run_id = $1 AND o.seq = coalesce((e.data ->> 'ref')::int4, e.seq)
                        AND o.organisation = current_organisation() OFFSET 0) b ON true
 WHERE e.run_id = $1 AND e.organisation = current_organisation() AND e.step = ANY ($2::text[])
 ORDER BY e.seq
