-- What a scheduler has to be able to read to go on with all runs of a shard, as one has found that could not.
ALTER TABLE shard ADD COLUMN format integer NOT NULL DEFAULT 0;
