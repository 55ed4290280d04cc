-- What the live schedulers have told of late.
-- Columns: name text; health json; health_at timestamptz, when it was told. Few rows, read whole. No locks.
SELECT name, health, health_at FROM scheduler
 WHERE lease_until > now() AND health_at > now() - interval '10 s' ORDER BY health_at DESC
