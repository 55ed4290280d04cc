-- Quarantined runs of a shard. $1 smallint: shard. Column: uuid. Few rows, read whole. No locks.
SELECT run_id FROM quarantine WHERE shard = $1
