-- Changes an organisation's own limits: what is given replaces, null takes away, the rest stays.
-- $1 text name  $2 json {"steps": 200, "depth": null}
-- Columns: as organisation_get. Index: unique name. Locks the organisation's row.
UPDATE organisation SET limits = jsonb_strip_nulls(limits::jsonb || $2::json::jsonb)::json, changed_at = now()
 WHERE name = $1 AND id = current_organisation()
RETURNING name, weight, limits, created_at
