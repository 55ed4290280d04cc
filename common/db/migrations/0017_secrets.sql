-- Secrets: values that are written, never read back. What is here tells nothing without a master key, which is in files of
-- the services only (common/seal). A data key is wrapped by a master key, values are sealed with the data key of their
-- organisation that is not retired; retired ones stay until nothing is sealed with them.
CREATE TABLE data_key (
    organisation integer NOT NULL REFERENCES organisation,
    version      integer NOT NULL CHECK (version > 0),
    master       text NOT NULL,                  -- id of the master key
    wrapped      bytea NOT NULL,                 -- the key, sealed with the master key
    created_at   timestamptz NOT NULL DEFAULT now(),
    wrapped_at   timestamptz NOT NULL DEFAULT now(),
    retired_at   timestamptz,
    PRIMARY KEY (organisation, version)
);
CREATE UNIQUE INDEX data_key_active ON data_key (organisation) WHERE retired_at IS NULL;

CREATE TABLE secret (
    organisation integer NOT NULL,
    name         text NOT NULL CHECK (name ~ '^[A-Za-z_][A-Za-z0-9_]{0,62}$'),
    version      integer NOT NULL,               -- of the value: 1, 2, ...
    key_version  integer NOT NULL,
    box          bytea NOT NULL,                 -- the value, sealed with the data key
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    updated_by   text NOT NULL,                  -- prefix of the API key
    last_used_at timestamptz,                    -- to the minute
    PRIMARY KEY (organisation, name),
    FOREIGN KEY (organisation, key_version) REFERENCES data_key (organisation, version)
);
CREATE INDEX secret_key_version ON secret (organisation, key_version);

-- Where the newest version of a workflow refers to a secret, there or not. Written with the save.
CREATE TABLE secret_use (
    organisation integer NOT NULL,
    secret       text NOT NULL,
    workflow     text NOT NULL,
    pointer      text NOT NULL,                  -- JSON Pointer in the document
    PRIMARY KEY (organisation, secret, workflow, pointer),
    FOREIGN KEY (organisation, workflow) REFERENCES workflow (organisation, name)
);
CREATE INDEX secret_use_workflow ON secret_use (organisation, workflow);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['data_key', 'secret', 'secret_use'] LOOP
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

GRANT SELECT, INSERT, UPDATE, DELETE ON data_key, secret TO ropewalk_gateway;
GRANT SELECT, INSERT, DELETE ON secret_use TO ropewalk_gateway;
GRANT SELECT ON data_key, secret TO ropewalk_scheduler;
GRANT UPDATE (last_used_at) ON secret TO ropewalk_scheduler;

-- Wrapping the data keys of all organisations again crosses organisations; the gateway calls it for admins of the first one.
CREATE FUNCTION data_key_stale(current_master text, most integer)
    RETURNS TABLE (organisation integer, organisation_name text, version integer, master text, wrapped bytea, remaining bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ropewalk, pg_temp AS
    $$ SELECT k.organisation, o.name, k.version, k.master, k.wrapped, count(*) OVER ()
         FROM data_key k JOIN organisation o ON o.id = k.organisation
        WHERE k.master <> current_master ORDER BY k.organisation, k.version LIMIT most $$;
CREATE FUNCTION data_key_rewrap(org integer, key_version integer, was bytea, new_master text, new_wrapped bytea) RETURNS boolean
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = ropewalk, pg_temp AS
    $$ WITH done AS (UPDATE data_key SET master = new_master, wrapped = new_wrapped, wrapped_at = now()
                      WHERE organisation = org AND version = key_version AND wrapped = was RETURNING 1)
       SELECT EXISTS (SELECT FROM done) $$;
REVOKE ALL ON FUNCTION data_key_stale, data_key_rewrap FROM PUBLIC;
GRANT EXECUTE ON FUNCTION data_key_stale, data_key_rewrap TO ropewalk_gateway;
