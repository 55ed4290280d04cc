-- Writes a secret, sealed with data key $2, if that is still the one in use; it stays so until this commits.
-- $1 text name  $2 int4 version of the data key  $3 bytea box  $4 text prefix of the API key
-- Columns: version int4 of the value, created_at, updated_at timestamptz; no row: another data key is in use.
-- Locks the data key (shared) and the secret's row.
INSERT INTO secret (organisation, name, version, key_version, box, updated_by)
SELECT organisation, $1, 1, version, $3, $4
  FROM (SELECT organisation, version FROM data_key
         WHERE organisation = current_organisation() AND version = $2 AND retired_at IS NULL FOR SHARE) k
ON CONFLICT (organisation, name) DO UPDATE
   SET version = secret.version + 1, key_version = excluded.key_version, box = excluded.box, updated_at = now(),
       updated_by = excluded.updated_by
RETURNING version, created_at, updated_at
