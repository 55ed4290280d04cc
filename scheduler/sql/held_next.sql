-- When the next group of these shards is due, where held_due has just found none that is.
-- $1 smallint[] shards
-- Columns: microseconds until then int8 (NULL: none will be). Index: held_group_due. No locks.
SELECT (extract(epoch FROM (SELECT g.due_at FROM held_group g WHERE g.shard = ANY ($1::smallint[])
                             ORDER BY g.due_at LIMIT 1) - clock_timestamp()) * 1000000)::int8
