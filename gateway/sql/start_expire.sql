-- Forgets idempotency keys whose time is over, so that they can be used again.
-- $1 text[] workflows  $2 text[] keys. Index: primary key.
DELETE FROM idempotency i USING unnest($1::text[], $2::text[]) AS a (scope, key)
 WHERE i.organisation = current_organisation() AND i.scope = a.scope AND i.key = a.key AND i.expires_at < now()
