-- Removes operations on many runs whose time is over, one slice. $1 int: rows of a slice; $2 int: the oldest that
-- stay. Index: bulk_operation_expiry; their runs go with them. The owner of shard 0 does it, so that no two remove the same rows.
DELETE FROM bulk_operation WHERE ctid IN (
    SELECT ctid FROM bulk_operation WHERE expires_at <= now() ORDER BY expires_at LIMIT $1::int OFFSET $2::int)
