-- Who holds the key with this hash, before an organisation is known (SECURITY DEFINER; revoked keys are not found).
-- $1 bytea sha256 of the whole key
-- Columns: organisation int4, organisation's name text, key uuid, role text, prefix text, organisation's own limits json.
-- Index: api_key_hash. No locks.
SELECT organisation, organisation_name, key_id, role, prefix, limits FROM api_key_find($1)
