-- What schedulers tell with each renewal of their lease, for people who ask why a run is not moving and what waits where:
-- {"broker": true, "queues": [[pool, priority, consumers (-1: not known), in the database, published, age of the oldest in ms], ...]}
ALTER TABLE scheduler ADD COLUMN health json;
ALTER TABLE scheduler ADD COLUMN health_at timestamptz;        -- a former release leaves what it finds: not believed for long
