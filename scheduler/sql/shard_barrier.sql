-- Waits until no batch of these shards is open any more, so that one whose outcome is unknown is decided.
-- $1 smallint[]: shards. Exclusive advisory locks in the order of shards, given back at once.
SELECT pg_advisory_xact_lock(1919119216, s) FROM (SELECT s FROM unnest($1::smallint[]) s ORDER BY s) AS ordered
