-- Which shard a slot belongs to. No parameters. Columns: smallint, slot; smallint, shard. 4,096 rows, read whole.
SELECT slot, shard FROM slot ORDER BY slot
