-- When the next schedule of these shards is due, where schedule_due has just found none that is.
-- $1 smallint[] shards
-- Columns: microseconds until then int8 (NULL: none will be), whether times of one wait for a run to end bool.
-- Indexes: schedule_due, schedule_waiting. No locks.
SELECT (extract(epoch FROM (SELECT s.due_at FROM schedule s WHERE s.due_at IS NOT NULL AND s.shard = ANY ($1::smallint[])
                             ORDER BY s.due_at LIMIT 1) - clock_timestamp()) * 1000000)::int8,
       EXISTS (SELECT FROM schedule s WHERE s.waiting > 0 AND s.shard = ANY ($1::smallint[]) AND NOT s.paused AND s.fault IS NULL)
