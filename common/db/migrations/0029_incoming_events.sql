-- Incoming events (CloudEvents), each once: (organisation, source, id) is what makes them the same, as long as they are kept. A
-- row is written in the transaction that starts the runs of all triggers that it sets off; a copy writes nothing.
CREATE TABLE incoming_event (
    organisation integer NOT NULL,
    source       text NOT NULL,
    id           text NOT NULL,
    type         text NOT NULL,
    subject      text,
    number       bigint GENERATED ALWAYS AS IDENTITY, -- in the order of arrival, but for those that arrive together
    -- Who reads on from a place reads what was written by transactions that are over, in the order of their numbers: none
    -- can become visible behind that place.
    written      bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    at           timestamptz NOT NULL DEFAULT now(),
    event        json NOT NULL,                       -- as it came, in the JSON format
    starts       json NOT NULL,                       -- what it has set off: {workflow, trigger, run_id}, or code and message for run_id
    PRIMARY KEY (organisation, source, id)
);
CREATE INDEX incoming_event_number ON incoming_event (organisation, number);
CREATE INDEX incoming_event_written ON incoming_event (organisation, written, number);
CREATE INDEX incoming_event_type ON incoming_event (organisation, type, number);
CREATE INDEX incoming_event_expiry ON incoming_event (at);

-- Triggers of workflows that events set off: of the newest version, from the transaction of the save on.
CREATE TABLE event_trigger (
    organisation integer NOT NULL,
    workflow     text NOT NULL,
    trigger      text NOT NULL,
    type         text NOT NULL,
    source       text,                                -- NULL: any
    PRIMARY KEY (organisation, workflow, trigger)
);
CREATE INDEX event_trigger_type ON event_trigger (organisation, type);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['incoming_event', 'event_trigger'] LOOP
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
GRANT SELECT, INSERT ON incoming_event TO ropewalk_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON event_trigger TO ropewalk_gateway;
GRANT SELECT, DELETE ON incoming_event TO ropewalk_scheduler;
