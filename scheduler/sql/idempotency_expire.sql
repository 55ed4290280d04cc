-- Removes idempotency rows whose time is over, one slice. $1 int: rows of a slice; $2 int: the oldest that stay.
-- Index: idempotency_expiry. The owner of shard 0 does it, so that no two remove the same rows.
DELETE FROM idempotency WHERE ctid IN (
    SELECT ctid FROM idempotency WHERE expires_at <= now() ORDER BY expires_at LIMIT $1::int OFFSET $2::int)
