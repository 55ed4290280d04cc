-- Events that the broker has.
-- $1 uuid endpoint  $2 text[] events
-- Primary key. Locks the rows.
DELETE FROM outgoing WHERE organisation = current_organisation() AND endpoint = $1 AND event = ANY ($2)
