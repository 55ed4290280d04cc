-- An organisation by name, before a webhook is anybody's (SECURITY DEFINER).
-- $1 text its name
-- Columns: organisation int4, its own limits json. Index: organisation_name_key. No locks.
SELECT organisation, limits FROM organisation_find($1)
