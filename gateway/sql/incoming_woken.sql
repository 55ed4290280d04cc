-- Shards of the steps that wait for such an event: each has been told of it by the trigger incoming_event_wakes.
-- $1 text type  $2 text source
-- Columns: shard int2. Index: open_work_event. No locks.
SELECT DISTINCT s.shard
  FROM open_work o JOIN slot s ON s.slot = run_slot(o.run_id)
 WHERE o.organisation = current_organisation() AND o.event_type = $1 AND o.event_type IS NOT NULL AND o.event_since IS NULL
   AND (o.event_source IS NULL OR o.event_source = $2)
