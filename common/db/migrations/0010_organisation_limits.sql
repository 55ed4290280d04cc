-- An organisation's own limits come with its key (gateways) and its runs (schedulers). Schedulers also ask every two
-- seconds for organisations that have changed of late.
ALTER TABLE organisation ADD COLUMN changed_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX organisation_changed ON organisation (changed_at);
GRANT UPDATE (changed_at) ON organisation TO ropewalk_gateway;

DROP FUNCTION api_key_find(bytea);
CREATE FUNCTION api_key_find(key_hash bytea) RETURNS TABLE (organisation integer, organisation_name text, key_id uuid, role text, prefix text, limits json)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ropewalk, pg_temp AS
    $$ SELECT k.organisation, o.name, k.id, k.role, k.prefix, o.limits FROM api_key k JOIN organisation o ON o.id = k.organisation
       WHERE k.hash = key_hash AND k.revoked_at IS NULL $$;
REVOKE ALL ON FUNCTION api_key_find FROM PUBLIC;
GRANT EXECUTE ON FUNCTION api_key_find TO ropewalk_gateway;
