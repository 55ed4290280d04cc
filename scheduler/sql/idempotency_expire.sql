-- Removes idempotency rows whose time is over, one slice. $1 int: rows of a slice. Index: idempotency_expiry. Rows that
-- another scheduler is removing are left to it.
DELETE FROM idempotency
 WHERE ctid IN (SELECT ctid FROM idempotency WHERE expires_at <= now() ORDER BY expires_at LIMIT $1::int
                   FOR UPDATE SKIP LOCKED)
