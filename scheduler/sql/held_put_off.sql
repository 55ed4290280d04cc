-- A group that PostgreSQL refuses to look at is looked at again a minute later, so that it holds up no others.
-- $1 int8 group. Locks: its row. The caller has asked shard_guard.
UPDATE held_group SET due_at = clock_timestamp() + interval '1 minute' WHERE id = $1
