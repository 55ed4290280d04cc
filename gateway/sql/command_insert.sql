-- Asks for something about a run; the scheduler's verdict is an event.
-- $1 uuid run  $2 int2 its slot  $3 text kind  $4 json body  $5 text queue that waits for the verdict
-- Columns: number int8, shard int2; no row when there is no such run. Primary keys.
INSERT INTO command (shard, organisation, run_id, kind, body, reply_to)
SELECT s.shard, current_organisation(), r.id, $3, $4, $5
  FROM run r JOIN slot s ON s.slot = $2
 WHERE r.id = $1 AND r.organisation = current_organisation()
RETURNING id, shard
