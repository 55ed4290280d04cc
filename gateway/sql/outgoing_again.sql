-- Sends one again, under its id, and if need be by the whole schedule. What is on its way is left alone.
-- $1 uuid endpoint  $2 text event
-- Columns: event text; no row: there is none. Primary key. Locks the row.
UPDATE outgoing SET status = 'pending', tries = CASE WHEN held THEN tries ELSE 0 END,
       next_at = CASE WHEN held THEN next_at ELSE now() END, expires_at = greatest(expires_at, now() + interval '7 days')
 WHERE organisation = current_organisation() AND endpoint = $1 AND event = $2
RETURNING event
