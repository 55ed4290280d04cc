-- Says which event format the runs of a shard need at least. $1 uuid: incarnation; $2 smallint: shard; $3 int: format. Locks
-- its row; only the owner's word counts.
UPDATE shard SET format = $3::int WHERE shard = $2::smallint AND incarnation = $1 AND format < $3::int
