-- Events that the broker has not taken.
-- $1 uuid endpoint  $2 text[] events  $3 int4 when again, in ms
-- Primary key. Locks the rows.
UPDATE outgoing SET next_at = now() + $3::int4 * interval '1 ms', held = false
 WHERE organisation = current_organisation() AND endpoint = $1 AND event = ANY ($2) AND held
