-- Removes runs of operations whose time is over, one slice. $1 int: rows of a slice; $2 int: the oldest that stay.
-- Indexes: bulk_operation_expiry, primary key. The owner of shard 0 does it, so that no two remove the same rows.
DELETE FROM bulk_run WHERE ctid IN (
    SELECT b.ctid FROM bulk_operation o JOIN bulk_run b ON b.organisation = o.organisation AND b.operation = o.id
     WHERE o.expires_at <= now() ORDER BY o.expires_at, b.run_id LIMIT $1::int OFFSET $2::int)
