-- Webhooks: which deliveries have been seen, and a log of all of them, taken or not.

-- What makes a delivery unique: the sender's signed id, or what was signed. Written in the transaction that starts the run.
CREATE TABLE delivery_nonce (
    organisation integer NOT NULL,
    scope        text NOT NULL,                  -- workflow/trigger
    nonce        text NOT NULL,
    run_id       uuid NOT NULL,
    expires_at   timestamptz NOT NULL,           -- twice the trigger's window
    PRIMARY KEY (organisation, scope, nonce)
);
CREATE INDEX delivery_nonce_expiry ON delivery_nonce (expires_at);

CREATE TABLE delivery (
    organisation integer NOT NULL,
    id           uuid NOT NULL,                  -- by time
    at           timestamptz NOT NULL,
    workflow     text NOT NULL,
    trigger      text NOT NULL,
    status       smallint NOT NULL,              -- what was answered
    stage        text NOT NULL,                  -- where it ended: address, size, signature, replay, ..., start
    reason       text NOT NULL,                  -- accepted, or why not
    address      text,
    request      json,                           -- {"headers", "query"}, without what is hidden
    body_bytes   integer NOT NULL,
    excerpt      text,                           -- the first 4 KiB
    body         bytea,                          -- the whole, of one that is genuine and started nothing: it can be taken again
    took_us      integer NOT NULL,
    run_id       uuid,
    redelivered_from uuid,
    old_secret   boolean NOT NULL,               -- signed with the secret that is being replaced
    audit        text,                           -- what stages in audit would have refused it for
    PRIMARY KEY (organisation, id)
);
CREATE INDEX delivery_expiry ON delivery (at);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['delivery_nonce', 'delivery'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I TO ropewalk_gateway USING (organisation = current_organisation())
                        WITH CHECK (organisation = current_organisation())', t);
        EXECUTE format('CREATE POLICY tenant_only ON %I AS RESTRICTIVE TO ropewalk_gateway USING (organisation = current_organisation())
                        WITH CHECK (organisation = current_organisation())', t);
        EXECUTE format('CREATE POLICY all_organisations ON %I TO ropewalk_scheduler USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY owner ON %I TO ropewalk_owner USING (true) WITH CHECK (true)', t);
    END LOOP;
END $$;
GRANT SELECT, INSERT, DELETE ON delivery_nonce TO ropewalk_gateway;
GRANT SELECT, INSERT ON delivery TO ropewalk_gateway;
GRANT SELECT, DELETE ON delivery_nonce, delivery TO ropewalk_scheduler;

-- A webhook names its organisation, and brings no key.
CREATE FUNCTION organisation_find(asked text) RETURNS TABLE (organisation integer, limits json)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ropewalk, pg_temp AS
    $$ SELECT o.id, o.limits FROM organisation o WHERE o.name = asked $$;
REVOKE ALL ON FUNCTION organisation_find FROM PUBLIC;
GRANT EXECUTE ON FUNCTION organisation_find TO ropewalk_gateway;
