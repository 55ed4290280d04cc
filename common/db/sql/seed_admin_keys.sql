-- How many usable admin keys the first organisation has. No parameters. Column: bigint. Few rows: no index needed.
SELECT count(*) FROM api_key k JOIN organisation o ON o.id = k.organisation
 WHERE o.name = 'default' AND k.role = 'admin' AND k.revoked_at IS NULL
