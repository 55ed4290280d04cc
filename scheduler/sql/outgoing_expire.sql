-- Removes what endpoints were told 7 days ago, or were to be told and are not any more, one slice; the attempts go with it.
-- $1 int: rows of a slice; $2 int: the oldest that stay. Index: outgoing_expiry. The owner of shard 0 does it.
DELETE FROM outgoing WHERE ctid IN (
    SELECT ctid FROM outgoing WHERE expires_at <= now() ORDER BY expires_at LIMIT $1::int OFFSET $2::int)
