-- Which runs were done again, and as which: a table of its own, because `run` has a partition for each week, all of which would
-- have to be looked into for the reruns of one.
CREATE TABLE rerun (
    organisation integer NOT NULL,
    of_run       uuid NOT NULL,
    run_id       uuid NOT NULL,
    PRIMARY KEY (of_run, run_id)
);
ALTER TABLE rerun ENABLE ROW LEVEL SECURITY;
ALTER TABLE rerun FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON rerun TO ropewalk_gateway USING (organisation = current_organisation()) WITH CHECK (organisation = current_organisation());
CREATE POLICY tenant_only ON rerun AS RESTRICTIVE TO ropewalk_gateway USING (organisation = current_organisation())
    WITH CHECK (organisation = current_organisation());
CREATE POLICY all_organisations ON rerun TO ropewalk_scheduler USING (true) WITH CHECK (true);
CREATE POLICY owner ON rerun TO ropewalk_owner USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON rerun TO ropewalk_gateway;
GRANT SELECT ON rerun TO ropewalk_scheduler;

-- By a trigger, because gateways of the release before know nothing of the table.
CREATE FUNCTION note_rerun() RETURNS trigger LANGUAGE plpgsql SET search_path = ropewalk, pg_temp AS $$
BEGIN
    INSERT INTO rerun (organisation, of_run, run_id) VALUES (NEW.organisation, NEW.rerun_of, NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER note_rerun AFTER INSERT ON run FOR EACH ROW WHEN (NEW.rerun_of IS NOT NULL) EXECUTE FUNCTION note_rerun();
INSERT INTO rerun (organisation, of_run, run_id) SELECT organisation, rerun_of, id FROM run WHERE rerun_of IS NOT NULL;
