-- What every migration relies on: the group roles, the schema, and the list of what was applied. Idempotent. Roles belong
-- to the whole cluster: another database's migrator may be making them at this moment.
-- No parameters. Run by an administrator who may create roles; takes no lock that a service waits for.
DO $$
DECLARE
    one text;
BEGIN
    FOREACH one IN ARRAY ARRAY['ropewalk_owner', 'ropewalk_gateway', 'ropewalk_scheduler'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = one) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', one);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;
    IF NOT pg_has_role(current_user, 'ropewalk_owner', 'MEMBER') THEN
        EXECUTE format('GRANT ropewalk_owner TO %I', current_user);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'ropewalk') THEN
        CREATE SCHEMA ropewalk AUTHORIZATION ropewalk_owner;
    END IF;
END $$;
SET ROLE ropewalk_owner;
GRANT USAGE ON SCHEMA ropewalk TO ropewalk_gateway, ropewalk_scheduler;
CREATE TABLE IF NOT EXISTS ropewalk.schema_migration (
    number       integer PRIMARY KEY,
    name         text NOT NULL,
    applied_at   timestamptz NOT NULL DEFAULT now()
);
