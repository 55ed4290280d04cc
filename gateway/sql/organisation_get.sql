-- The caller's organisation, if it has this name.
-- $1 text
-- Columns: name text, weight int4, limits json, created_at timestamptz. Index: unique name. No locks.
SELECT name, weight, limits, created_at FROM organisation WHERE name = $1 AND id = current_organisation()
