-- First statement of every batch: locks its shards against a takeover and refuses with RW001 when one has another owner.
-- $1 uuid this process  $2 smallint[] shards  $3 bigint[] epochs
-- Locks: advisory, shared, per shard, until the transaction ends.
SELECT shard_guard($1, $2, $3)
