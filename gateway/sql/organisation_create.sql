-- A new organisation with its first admin key (SECURITY DEFINER: it crosses organisations).
-- $1 text name  $2 text name of the key  $3 text prefix of the key  $4 bytea sha256 of the key
-- Columns: id int4. A name that is taken is a unique violation.
SELECT organisation_create($1, $2, $3, $4)
