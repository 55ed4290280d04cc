-- Concurrency keys: how many runs of a workflow, of a key of it, or of an organisation go on at a time. A key belongs to the
-- shard of its slot (the last 12 bits of its id, as a run's), and only that shard's owner writes its rows, in batches that
-- begin with shard_guard. Runs of any shard ask, give back and are told by commands.
CREATE TABLE admission_key (
    key          uuid PRIMARY KEY,               -- hash of organisation, workflow and name (common/engine/engine_admission.c)
    organisation integer NOT NULL,
    shard        smallint NOT NULL,
    workflow     text,                           -- NULL: the organisation's own bound
    name         json,                           -- text as people know it; NULL: the workflow has no keys
    held         integer NOT NULL DEFAULT 0,     -- runs that hold a slot
    waiting      integer NOT NULL DEFAULT 0      -- runs that wait for one
) WITH (fillfactor = 50);
CREATE INDEX admission_key_shard ON admission_key (shard);
CREATE TABLE admission (
    key          uuid NOT NULL,
    run_id       uuid NOT NULL,
    organisation integer NOT NULL,
    number       bigint NOT NULL GENERATED ALWAYS AS IDENTITY, -- in the order in which they asked
    seq          integer NOT NULL,               -- of the run's event run.queued
    bound        integer,                        -- runs at a time, as this run's version has it; of an organisation's key the installation's, NULL: none
    granted      boolean NOT NULL,
    told         boolean NOT NULL DEFAULT false, -- to end, because of a newer one
    since        timestamptz NOT NULL DEFAULT now(), -- granted, or waiting
    PRIMARY KEY (key, run_id)
) WITH (fillfactor = 70);
CREATE INDEX admission_order ON admission (key, granted, number);
CREATE INDEX admission_run ON admission (run_id);
-- For the watch: runs that wait for a slot. No other row is in it.
CREATE INDEX open_work_admission ON open_work (shard) WHERE kind = 9;

CREATE FUNCTION run_slot(id uuid) RETURNS smallint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
    $$ SELECT ((get_byte(uuid_send(id), 14) & 15) * 256 + get_byte(uuid_send(id), 15))::smallint $$;

-- How many runs of a key go on at a time, for one that asks: as its workflow has it; of an organisation its own limit as it is
-- now, or the installation's as it was when the run asked.
CREATE FUNCTION admission_bound(k admission_key, asked integer, own integer) RETURNS integer LANGUAGE sql IMMUTABLE AS
    $$ SELECT coalesce(CASE WHEN k.workflow IS NULL THEN own END, asked, 2147483647) $$;

-- Tells a run something. Gives its shard.
CREATE FUNCTION admission_tell(org integer, run uuid, what text, about json) RETURNS smallint LANGUAGE sql VOLATILE AS
    $$ INSERT INTO command (shard, organisation, run_id, kind, body)
       SELECT s.shard, org, run, what, about FROM slot s WHERE s.slot = run_slot(run) RETURNING shard $$;

-- What the owner of keys does with what was asked of them, in that order; gives the shards of the runs that are told something.
-- Asking twice, giving back twice, and asking for a run that has ended change nothing. A slot goes to who has waited longest,
-- and only while fewer are held than that one's own bound. "take" takes one whether or not one is free: of a run that goes on
-- after its end. The rows are this transaction's alone (shard_guard).
CREATE FUNCTION admission_apply(shards smallint[], keys uuid[], orgs integer[], runs uuid[], releases boolean[], seqs integer[],
                                bounds integer[], modes text[], workflows text[], names json[])
    RETURNS SETOF smallint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    asked record;
    mine admission;
    k admission_key;
    head admission;
    old admission;
    own integer; -- bound of the organisation, NULL: it has none of its own
BEGIN
    FOR asked IN SELECT * FROM unnest(shards, keys, orgs, runs, releases, seqs, bounds, modes, workflows, names) WITH ORDINALITY
                  AS a (shard, key, org, run, release, seq, bound, mode, workflow, name, n) ORDER BY n LOOP
        SELECT (o.limits ->> 'max_running_runs')::integer INTO own FROM organisation o WHERE o.id = asked.org;
        SELECT * INTO mine FROM admission a WHERE a.key = asked.key AND a.run_id = asked.run;
        IF asked.release AND FOUND AND mine.seq < asked.seq THEN
            DELETE FROM admission a WHERE a.key = asked.key AND a.run_id = asked.run;
            UPDATE admission_key a SET held = a.held - mine.granted::integer, waiting = a.waiting - (NOT mine.granted)::integer
             WHERE a.key = asked.key;
        ELSIF NOT asked.release AND FOUND THEN
            UPDATE admission a SET seq = asked.seq WHERE a.key = asked.key AND a.run_id = asked.run AND a.seq < asked.seq;
            IF mine.granted AND asked.mode <> 'take' THEN
                RETURN NEXT admission_tell(asked.org, asked.run, 'slot_grant', json_build_object('seq', mine.seq));
            END IF;
        ELSIF NOT asked.release AND EXISTS (SELECT FROM run r WHERE r.id = asked.run AND r.status IN ('pending', 'active', 'paused')) THEN
            INSERT INTO admission_key (key, organisation, shard, workflow, name)
            VALUES (asked.key, asked.org, asked.shard, asked.workflow, asked.name) ON CONFLICT DO NOTHING;
            SELECT * INTO k FROM admission_key a WHERE a.key = asked.key;
            IF asked.mode = 'take' OR (k.waiting = 0 AND k.held < admission_bound(k, asked.bound, own)) THEN
                INSERT INTO admission (key, run_id, organisation, seq, bound, granted)
                VALUES (asked.key, asked.run, asked.org, asked.seq, asked.bound, true);
                UPDATE admission_key a SET held = a.held + 1 WHERE a.key = asked.key;
                IF asked.mode <> 'take' THEN
                    RETURN NEXT admission_tell(asked.org, asked.run, 'slot_grant', json_build_object('seq', asked.seq));
                END IF;
            ELSIF asked.mode = 'skip' THEN
                RETURN NEXT admission_tell(asked.org, asked.run, 'slot_grant', json_build_object('seq', asked.seq, 'refused', true));
            ELSE
                INSERT INTO admission (key, run_id, organisation, seq, bound, granted)
                VALUES (asked.key, asked.run, asked.org, asked.seq, asked.bound, false);
                UPDATE admission_key a SET waiting = a.waiting + 1 WHERE a.key = asked.key;
            END IF;
            -- as many of the newest as may go on stay; those that are older make room
            IF asked.mode = 'cancel_oldest' THEN
                FOR old IN SELECT * FROM admission a WHERE a.key = asked.key ORDER BY a.number DESC OFFSET asked.bound LOOP
                    CONTINUE WHEN old.told;
                    UPDATE admission a SET told = true WHERE a.key = old.key AND a.run_id = old.run_id;
                    RETURN NEXT admission_tell(asked.org, old.run_id, 'cancel', json_build_object('superseded_by', asked.run));
                END LOOP;
            END IF;
        END IF;
        LOOP
            SELECT * INTO k FROM admission_key a WHERE a.key = asked.key AND a.waiting > 0;
            EXIT WHEN NOT FOUND;
            SELECT * INTO head FROM admission a WHERE a.key = asked.key AND NOT a.granted AND NOT a.told ORDER BY a.number LIMIT 1;
            EXIT WHEN NOT FOUND OR k.held >= admission_bound(k, head.bound, own);
            UPDATE admission a SET granted = true, since = now() WHERE a.key = head.key AND a.run_id = head.run_id;
            UPDATE admission_key a SET held = a.held + 1, waiting = a.waiting - 1 WHERE a.key = asked.key;
            RETURN NEXT admission_tell(asked.org, head.run_id, 'slot_grant', json_build_object('seq', head.seq));
        END LOOP;
        DELETE FROM admission_key a WHERE a.key = asked.key AND a.held = 0 AND a.waiting = 0;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION admission_bound, admission_tell, admission_apply FROM PUBLIC;
GRANT EXECUTE ON FUNCTION admission_bound, admission_tell, admission_apply TO ropewalk_scheduler;

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['admission_key', 'admission'] LOOP
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
GRANT SELECT ON admission_key, admission TO ropewalk_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON admission_key, admission TO ropewalk_scheduler;
