-- Deletes an endpoint with its secrets. What it was told expires.
-- $1 uuid
-- Columns: id uuid; no row when there is none. Locks the rows.
WITH gone AS (DELETE FROM endpoint WHERE organisation = current_organisation() AND id = $1 RETURNING id),
keys AS (DELETE FROM secret s USING gone
          WHERE s.organisation = current_organisation() AND starts_with(s.name, '#' || gone.id || '.'))
SELECT id FROM gone
