-- Schedules: triggers of workflows that time sets off. A row for each, from the transaction of the save on. It belongs to the
-- shard of its slot (the last 12 bits of its id, as a run's), whose owner fires it, in batches that begin with shard_guard.
-- Gateways change rows too (save, pause, override, enable): each such change raises `revision`, and a batch that has looked
-- at the row before changes nothing of it.
CREATE TABLE schedule (
    id           uuid PRIMARY KEY,
    organisation integer NOT NULL,
    shard        smallint NOT NULL,
    workflow     text NOT NULL,
    trigger      text NOT NULL,                  -- its name in the document
    definition   json NOT NULL,                  -- the trigger, as the document has it
    override     json,                           -- stands for it until it is removed; NULL: none
    priority     smallint NOT NULL,              -- of the workflow's runs
    revision     integer NOT NULL DEFAULT 1,
    paused       boolean NOT NULL DEFAULT false,
    anchor_at    timestamptz NOT NULL DEFAULT now(), -- intervals are counted from then
    after_at     timestamptz NOT NULL DEFAULT now(), -- nominal times until then have been dealt with
    next_at      timestamptz,                    -- the nominal time after it, NULL: to be found out, or none
    due_at       timestamptz,                    -- when the owner has to look at the row; NULL: never (paused, disabled, over)
    last_at      timestamptz,                    -- nominal time that was fired last
    last_fired_at timestamptz,                   -- and when that was done
    last_run     uuid,
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (organisation, workflow, trigger)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE INDEX schedule_due ON schedule (due_at) WHERE due_at IS NOT NULL;

-- Each nominal time is fired once, whoever believes to be the owner: a row with a unique key, in the transaction of the start.
CREATE TABLE schedule_fire (
    schedule     uuid NOT NULL,
    nominal_at   timestamptz NOT NULL,
    organisation integer NOT NULL,
    run_id       uuid,                           -- NULL: skipped, because the run before it was still going on
    fired_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (schedule, nominal_at)
);
CREATE INDEX schedule_fire_age ON schedule_fire (fired_at);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['schedule', 'schedule_fire'] LOOP
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
GRANT SELECT, INSERT, UPDATE, DELETE ON schedule TO ropewalk_gateway;
GRANT SELECT ON schedule_fire TO ropewalk_gateway;
GRANT SELECT, UPDATE ON schedule TO ropewalk_scheduler;
GRANT SELECT, INSERT, DELETE ON schedule_fire TO ropewalk_scheduler;
