-- Forgets deliveries whose time is over, so that they can come again.
-- $1 text[] scopes  $2 text[] nonces, NULL among them. Index: primary key.
DELETE FROM delivery_nonce d USING unnest($1::text[], $2::text[]) AS a (scope, nonce)
 WHERE d.organisation = current_organisation() AND d.scope = a.scope AND d.nonce = a.nonce AND d.expires_at < now()
