-- One API key.
-- $1 uuid
-- Columns: id uuid, name text, role text, prefix text, created_at, revoked_at timestamptz. Primary key. No locks.
SELECT id, name, role, prefix, created_at, revoked_at FROM api_key WHERE organisation = current_organisation() AND id = $1
