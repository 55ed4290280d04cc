-- An attempt that was not made, or of which nothing is known: due at once, for whoever looks next.
-- $1 uuid endpoint  $2 text event  $3 int4 attempt
-- Primary key. Locks the row.
UPDATE outgoing SET next_at = now(), held = false
 WHERE organisation = current_organisation() AND endpoint = $1 AND event = $2 AND attempts = $3 AND held
