-- What was asked of many runs at once: the runs that matched at that moment, each with the number of its command. Written with
-- the commands in one statement, so there is nothing left to do that a process could forget.
CREATE TABLE bulk_operation (
    organisation integer NOT NULL,
    id           uuid NOT NULL,
    kind         text NOT NULL,                  -- cancel, retry, ...
    filter       json NOT NULL,                  -- as it was asked for
    runs         integer NOT NULL,               -- how many there are of it in bulk_run
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text NOT NULL,                  -- prefix of the API key
    key          text,                           -- Idempotency-Key
    body_hash    bytea,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (organisation, id)
);
CREATE UNIQUE INDEX bulk_operation_key ON bulk_operation (organisation, key) WHERE key IS NOT NULL;
CREATE INDEX bulk_operation_expiry ON bulk_operation (expires_at);
CREATE TABLE bulk_run (
    organisation integer NOT NULL,
    operation    uuid NOT NULL,
    run_id       uuid NOT NULL,
    command      bigint NOT NULL,
    PRIMARY KEY (organisation, operation, run_id),
    FOREIGN KEY (organisation, operation) REFERENCES bulk_operation ON DELETE CASCADE
);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['bulk_operation', 'bulk_run'] LOOP
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
GRANT SELECT, INSERT ON bulk_operation, bulk_run TO ropewalk_gateway;
GRANT SELECT, DELETE ON bulk_operation, bulk_run TO ropewalk_scheduler;
