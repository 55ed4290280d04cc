-- The one row of the installation, if it is not there. $1 bytea: a random key of 32 bytes for task tokens.
INSERT INTO installation (token_key) VALUES ($1) ON CONFLICT (one) DO NOTHING
