-- A page of the organisation's API keys, revoked ones too, by id.
-- $1 uuid ids above this one  $2 int4 how many
-- Columns: id uuid, name text, role text, prefix text, created_at, revoked_at timestamptz. Primary key. No locks.
SELECT id, name, role, prefix, created_at, revoked_at FROM api_key
 WHERE organisation = current_organisation() AND id > $1 ORDER BY id LIMIT $2
