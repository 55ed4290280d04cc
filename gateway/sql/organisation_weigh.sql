-- Changes an organisation's weight, whosever it is (SECURITY DEFINER: for admins of the first organisation).
-- $1 text name  $2 int4 1 to 1000
-- Columns: as organisation_get; no row when there is none. Index: unique name. Locks the organisation's row.
SELECT name, weight, limits, created_at FROM organisation_weigh($1, $2)
