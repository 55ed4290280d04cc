-- A new endpoint, if the organisation may have one more, and the data key that its secret is sealed with is still in use.
-- $1 uuid  $2 text kind  $3 text url  $4 text description  $5 text[] types  $6 text[] workflows; NULL: all  $7 bool enabled
-- $8 int4 number of its secret, NULL: none  $9 int4 version of the data key  $10 text prefix of the API key  $11 int4 how many it may have
-- Columns: id uuid; no row: see endpoint_count. The caller holds endpoint_lock. Locks the data key (shared).
INSERT INTO endpoint (organisation, id, kind, url, description, types, workflows, enabled, disabled_reason, disabled_at, secret, created_by)
SELECT current_organisation(), $1, $2, $3, $4, $5, $6, $7, CASE WHEN NOT $7 THEN 'asked' END, CASE WHEN NOT $7 THEN now() END,
       coalesce($8, 0), $10
 WHERE (SELECT count(*) FROM endpoint e WHERE e.organisation = current_organisation()) < $11
   AND ($2 <> 'exchange' OR NOT EXISTS (SELECT FROM endpoint e WHERE e.organisation = current_organisation() AND e.kind = 'exchange'))
   AND ($8 IS NULL OR EXISTS (SELECT FROM data_key k WHERE k.organisation = current_organisation() AND k.version = $9
                                 AND k.retired_at IS NULL FOR SHARE))
RETURNING id
