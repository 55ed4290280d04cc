-- The first admin key of the first organisation. $1 text: prefix; $2 bytea: sha256 of the whole key.
INSERT INTO api_key (organisation, name, role, prefix, hash)
SELECT id, 'first admin', 'admin', $1, $2 FROM organisation WHERE name = 'default'
