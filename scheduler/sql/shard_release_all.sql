-- Gives all shards of this process up. $1 uuid: incarnation. Locks their rows.
UPDATE shard SET owner = NULL, incarnation = NULL WHERE incarnation = $1
