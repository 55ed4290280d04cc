-- A secret of an endpoint, sealed; only with the endpoint's row, and for the number that stands there.
-- $1 uuid endpoint  $2 text name  $3 int4 version of the data key  $4 bytea box  $5 text prefix of the API key
-- Primary keys. Locks the secret's row.
INSERT INTO secret (organisation, name, version, key_version, box, updated_by)
SELECT e.organisation, $2, 1, $3, $4, $5 FROM endpoint e
 WHERE e.organisation = current_organisation() AND e.id = $1 AND $2 = '#' || e.id || '.' || e.secret
