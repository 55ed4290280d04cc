-- Which shard each slot belongs to.
-- Columns: slot int2, shard int2. Sequential: 4,096 rows. No locks.
SELECT slot, shard FROM slot
