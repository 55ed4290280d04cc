-- Was this delivery, at a trigger with debounce, throttle or batch, committed?
-- $1 uuid its line of the delivery log  $2 smallint slot of the run that it may have started
-- Columns: shard int2, reason text. Primary keys.
SELECT s.shard, d.reason FROM delivery d JOIN slot s ON s.slot = $2 WHERE d.organisation = current_organisation() AND d.id = $1
