-- What an attempt of a step was given, gave, or failed with. Steps that no worker does have no attempt and count as 1.
-- $1 uuid run  $2 text step  $3 int4 attempt  $4 int2[] types of the event
-- Columns: the event's output json, its data json. Index: primary key (all events of the run). No locks.
SELECT output, data FROM event
 WHERE run_id = $1 AND organisation = current_organisation() AND step = $2 AND type = ANY ($4)
   AND coalesce(nullif(attempt, 0), 1) = $3
 ORDER BY seq DESC LIMIT 1
