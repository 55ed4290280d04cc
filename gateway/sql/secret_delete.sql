-- Deletes a secret that people have written.
-- $1 text name
-- Columns: name text; no row when there is none. Primary key. Locks the row.
DELETE FROM secret WHERE organisation = current_organisation() AND name = $1 AND NOT starts_with(name, '#') RETURNING name
