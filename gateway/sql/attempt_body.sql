-- What an attempt of a step gave, or failed with; also what an iteration did. Steps that no worker does have no attempt and
-- count as 1. An output that is that of another event is taken from there.
-- $1 uuid run  $2 text step  $3 int4 attempt  $4 int2[] types of the event  $5 bool only those with a code
-- Columns: the event's output json, its data json, items int4 (of a loop: how many; its output is put together of theirs).
-- Index: primary key (all events of the run). No locks.
SELECT (SELECT o.output FROM event o
         WHERE o.run_id = $1 AND o.seq = coalesce((e.data ->> 'ref')::int4, e.seq) AND o.organisation = current_organisation()),
       e.data,
       (SELECT (w.data ->> 'count')::int4 FROM event w
         WHERE w.run_id = $1 AND w.organisation = current_organisation() AND w.step = $2 AND w.type = 22
           AND w.data ->> 'waits' = 'items' LIMIT 1)
  FROM event e
 WHERE e.run_id = $1 AND e.organisation = current_organisation() AND e.step = $2 AND e.type = ANY ($4)
   AND coalesce(nullif(e.attempt, 0), 1) = $3 AND (NOT $5 OR e.data ->> 'code' IS NOT NULL)
 ORDER BY e.seq DESC LIMIT 1
