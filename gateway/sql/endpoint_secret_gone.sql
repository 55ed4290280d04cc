-- Deletes secrets of an endpoint that do not sign any more.
-- $1 uuid endpoint
-- Index: primary key of secret, by organisation. Locks the rows.
DELETE FROM secret s
 WHERE s.organisation = current_organisation() AND starts_with(s.name, '#' || $1::uuid || '.')
   AND NOT EXISTS (SELECT FROM endpoint e WHERE e.organisation = s.organisation AND e.id = $1
                      AND s.name IN ('#' || e.id || '.' || e.secret, '#' || e.id || '.' || e.old_secret))
