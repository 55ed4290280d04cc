-- An endpoint signs with a new secret, and for a while with the one before it, too.
-- $1 uuid  $2 int4 number of the new secret  $3 int4 version of the data key  $4 int8 for how long, in ms
-- Columns: id uuid; no row: there is no such endpoint, it has no secret, or another data key is in use. Locks the row, and the data key (shared).
UPDATE endpoint e SET old_secret = CASE WHEN $4 > 0 THEN e.secret END,
       old_secret_until = CASE WHEN $4 > 0 THEN now() + $4 * interval '1 ms' END, secret = $2, updated_at = now()
 WHERE e.organisation = current_organisation() AND e.id = $1 AND e.kind = 'webhook'
   AND EXISTS (SELECT FROM data_key k WHERE k.organisation = current_organisation() AND k.version = $3 AND k.retired_at IS NULL FOR SHARE)
RETURNING e.id
