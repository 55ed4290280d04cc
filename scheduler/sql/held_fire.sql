-- Starts runs of what has waited long enough at triggers with debounce, throttle or batch: held_fire() in 0038.
-- $1 int8[] groups, one as often as it has ids of runs  $2 uuid[] those  $3 smallint[] shards that are ours
-- Columns: run uuid of what was started. Locks: the groups' rows; what somebody else has locked is left for the next look. The
-- caller has asked shard_guard and locked the starts.
SELECT run_id FROM held_fire($1::int8[], $2::uuid[], $3::smallint[])
