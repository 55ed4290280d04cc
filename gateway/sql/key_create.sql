-- A new API key; only its hash is kept.
-- $1 text name  $2 text role  $3 text prefix  $4 bytea sha256 of the key
-- Columns: id uuid, created_at timestamptz.
INSERT INTO api_key (organisation, name, role, prefix, hash) VALUES (current_organisation(), $1, $2, $3, $4)
RETURNING id, created_at
