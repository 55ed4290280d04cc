-- Quarantined runs of a shard. $1 smallint shard. Column: run.
SELECT run_id FROM quarantine WHERE shard = $1
