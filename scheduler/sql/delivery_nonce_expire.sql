-- Removes deliveries that need not be known any more, one slice. $1 int: rows of a slice; $2 int: the oldest that stay.
-- Index: delivery_nonce_expiry. The owner of shard 0 does it.
DELETE FROM delivery_nonce WHERE ctid IN (
    SELECT ctid FROM delivery_nonce WHERE expires_at <= now() ORDER BY expires_at LIMIT $1::int OFFSET $2::int)
