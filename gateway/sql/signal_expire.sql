-- Forgets the idempotency key of a signal when its time is over, so that it can be used again.
-- $1 uuid run  $2 text key. Indexes: primary keys.
DELETE FROM idempotency i USING run r
 WHERE r.id = $1 AND r.organisation = current_organisation() AND i.organisation = r.organisation AND i.scope = r.workflow
   AND i.key = $2 AND i.expires_at < now()
