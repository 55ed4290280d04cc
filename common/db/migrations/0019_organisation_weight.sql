-- An organisation's share of what all wait for is the installation's to give: admins of the first organisation say it, of any.
-- The gateway calls this for them only. No row: there is no such organisation.
CREATE FUNCTION organisation_weigh(named text, new_weight integer)
    RETURNS TABLE (name text, weight integer, limits json, created_at timestamptz)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = ropewalk, pg_temp AS
    $$ UPDATE organisation o SET weight = new_weight, changed_at = now() WHERE o.name = named
       RETURNING o.name, o.weight, o.limits, o.created_at $$;
REVOKE ALL ON FUNCTION organisation_weigh FROM PUBLIC;
GRANT EXECUTE ON FUNCTION organisation_weigh TO ropewalk_gateway;
REVOKE UPDATE (weight) ON organisation FROM ropewalk_gateway;
