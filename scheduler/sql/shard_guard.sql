-- The first statement of every batch: the shards are this process's, and stay so until the batch has ended.
-- $1 uuid: incarnation; $2 smallint[]: shards; $3 bigint[]: their epochs. RW001 when one has another owner or epoch.
-- Shared advisory locks in the order of shards; they exclude a takeover. Index: primary key of shard.
SELECT shard_guard($1, $2::smallint[], $3::bigint[])
