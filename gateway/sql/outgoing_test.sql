-- An event that tries an endpoint, if it is enabled.
-- $1 uuid endpoint  $2 text event  $3 text type  $4 timestamptz at  $5 json body
-- Columns: event text; no row: there is no such endpoint, or it is not enabled. Primary keys. No locks.
INSERT INTO outgoing (organisation, endpoint, event, type, at, body, next_at)
SELECT e.organisation, e.id, $2, $3, $4, $5, now() FROM endpoint e
 WHERE e.organisation = current_organisation() AND e.id = $1 AND e.enabled
RETURNING event
