-- Changes an endpoint. One that is enabled, or goes elsewhere, is not held to fail.
-- $1 uuid  $2 text url, NULL: as it is  $3 text description, NULL: as it is  $4 bool change types  $5 text[] types, NULL: all
-- $6 bool change workflows  $7 text[] workflows, NULL: all  $8 bool enabled, NULL: as it is
-- Columns: id uuid; no row: there is none, or its kind has no url. Locks the row, and with $8 the organisation's.
UPDATE endpoint SET url = coalesce($2, url), description = coalesce($3, description),
       types = CASE WHEN $4 THEN $5 ELSE types END, workflows = CASE WHEN $6 THEN $7 ELSE workflows END,
       enabled = coalesce($8, enabled),
       disabled_reason = CASE WHEN $8 IS NULL OR (NOT $8 AND NOT enabled) THEN disabled_reason WHEN NOT $8 THEN 'asked' END,
       disabled_at = CASE WHEN $8 IS NULL OR (NOT $8 AND NOT enabled) THEN disabled_at WHEN NOT $8 THEN now() END,
       failing_since = CASE WHEN $8 OR $2 IS NOT NULL THEN NULL ELSE failing_since END, updated_at = now()
 WHERE organisation = current_organisation() AND id = $1 AND ($2 IS NULL OR kind = 'webhook')
RETURNING id
