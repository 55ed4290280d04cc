-- Was this run's start committed?
-- $1 uuid run  $2 smallint its slot
-- Columns: shard int2. Primary keys.
SELECT s.shard FROM run r JOIN slot s ON s.slot = $2 WHERE r.id = $1 AND r.organisation = current_organisation()
