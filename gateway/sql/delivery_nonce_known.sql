-- Has the delivery been taken? $1 text scope  $2 text nonce
-- Columns: none; a row when it has. Index: primary key. No locks.
SELECT FROM delivery_nonce
 WHERE organisation = current_organisation() AND scope = $1 AND nonce = $2 AND expires_at >= now()
