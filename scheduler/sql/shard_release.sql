-- Gives shards up. $1 uuid: incarnation; $2 smallint[]: shards. Locks their rows.
UPDATE shard SET owner = NULL, incarnation = NULL WHERE shard = ANY ($2::smallint[]) AND incarnation = $1
