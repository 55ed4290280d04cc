-- Removes operations on many runs whose time is over, one slice. $1 int: rows of a slice; $2 int: the oldest that
-- stay. Index: bulk_operation_expiry; their runs have gone before them (bulk_run_expire.sql). The owner of shard 0 does it, so
-- that no two remove the same rows.
DELETE FROM bulk_operation WHERE ctid IN (
    SELECT o.ctid FROM bulk_operation o
     WHERE o.expires_at <= now() AND NOT EXISTS (SELECT FROM bulk_run b WHERE b.organisation = o.organisation AND b.operation = o.id)
     ORDER BY o.expires_at LIMIT $1::int OFFSET $2::int)
