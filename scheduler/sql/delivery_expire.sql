-- Removes what the delivery log has held for 7 days, one slice. $1 int: rows of a slice; $2 int: the oldest that stay.
-- Index: delivery_expiry. The owner of shard 0 does it.
DELETE FROM delivery WHERE ctid IN (
    SELECT ctid FROM delivery WHERE at <= now() - interval '7 days' ORDER BY at LIMIT $1::int OFFSET $2::int)
