-- For the watch: the keys of organisations, which are few, among those of workflows, which may be many.
CREATE INDEX admission_key_own ON admission_key (shard) WHERE workflow IS NULL
