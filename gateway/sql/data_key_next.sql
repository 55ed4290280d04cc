-- Retires the data key that is in use and puts the next in its place. Nothing happens when somebody else has done so. Who
-- is sealing with the old one is waited for: secret_put holds its row.
-- $1 int4 version in use  $2 text id of the master key  $3 bytea wrapped, of version $1 + 1
-- Columns: version int4; no row when $1 is not in use any more. Locks the row of the key in use.
WITH old AS (
    UPDATE data_key SET retired_at = now()
     WHERE organisation = current_organisation() AND version = $1 AND retired_at IS NULL RETURNING organisation)
INSERT INTO data_key (organisation, version, master, wrapped) SELECT organisation, $1 + 1, $2, $3 FROM old
RETURNING version
