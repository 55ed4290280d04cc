-- Forgets events that were taken 7 days ago: from then on the same source and id is another event.
-- $1 int: rows of a slice; $2 int: the oldest that stay. Index: incoming_event_expiry. The owner of shard 0 does it.
DELETE FROM incoming_event WHERE ctid IN (
    SELECT ctid FROM incoming_event WHERE at <= now() - interval '7 days' ORDER BY at LIMIT $1::int OFFSET $2::int)
