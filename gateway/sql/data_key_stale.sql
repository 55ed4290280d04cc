-- Data keys of all organisations that another master key wraps (SECURITY DEFINER: for admins of the first organisation).
-- $1 text id of the master key that should  $2 int4 how many at most
-- Columns: organisation int4, its name text, version int4, master text, wrapped bytea, remaining int8 (with these). No locks.
SELECT organisation, organisation_name, version, master, wrapped, remaining FROM data_key_stale($1, $2)
