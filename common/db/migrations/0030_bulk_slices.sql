-- Operations on many runs of any size. Accepting one writes the list of its runs; the commands come after it, in slices, from
-- whichever gateway looks next: some are out at a time, what has become of them is counted, and as many more are asked. What is
-- counted need not be looked at again, so that telling how far an operation is costs the same for ten runs and for a million.
ALTER TABLE bulk_operation ADD COLUMN next_at timestamptz DEFAULT now();         -- when it is to be looked at; NULL: nothing is left to do
ALTER TABLE bulk_operation ADD COLUMN applied integer NOT NULL DEFAULT 0;        -- of the runs that are counted
ALTER TABLE bulk_operation ADD COLUMN refused integer NOT NULL DEFAULT 0;
ALTER TABLE bulk_operation ADD COLUMN cancelled_at timestamptz;                  -- runs that had not been asked then are left
ALTER TABLE bulk_operation ADD COLUMN cancelled_by text;                         -- prefix of the API key
ALTER TABLE bulk_run ADD COLUMN counted boolean NOT NULL DEFAULT false;          -- what became of it is in its operation's row
CREATE INDEX bulk_operation_next ON bulk_operation (next_at) WHERE next_at IS NOT NULL;
DROP INDEX bulk_run_open, bulk_operation_worked_off; -- those of 0031 and above are in their place
GRANT UPDATE (next_at, cancelled_at, cancelled_by) ON bulk_operation TO ropewalk_gateway;

-- Looking up the operation for each of its runs took longer than writing them. A scheduler of now removes the runs first, in
-- slices; one of the release before leaves that to the table.
ALTER TABLE bulk_run DROP CONSTRAINT bulk_run_organisation_operation_fkey;
CREATE FUNCTION bulk_operation_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM bulk_run b USING gone WHERE b.organisation = gone.organisation AND b.operation = gone.id;
    RETURN NULL;
END $$;
CREATE TRIGGER gone AFTER DELETE ON bulk_operation REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION bulk_operation_gone();

-- Runs of the organisation that match a filter: `states` of them, `is_out` of the active ones those with (true) or without
-- (false) a task out, `wanted_q` a workflow that begins so, exactly the code or the step of the error, or the run `exactly`.
-- `families`: child runs only where their parent is asked for. NULL asks nothing. Taken into the statement that calls it.
CREATE FUNCTION runs_matching(lowest uuid, below uuid, wanted_workflow text, states text[], is_out boolean, wanted_q text,
                              exactly uuid, label_keys text[], label_values text[], wanted_parent uuid, families boolean)
    RETURNS TABLE (id uuid) LANGUAGE sql STABLE AS
    $$ SELECT r.id
         FROM ropewalk.run r
        CROSS JOIN LATERAL (SELECT r.status = 'active' AND EXISTS (SELECT FROM ropewalk.open_work o WHERE o.run_id = r.id AND o.kind = 1) AS out) w
        WHERE r.organisation = ropewalk.current_organisation() AND r.id >= lowest AND r.id < below
          AND r.status = ANY (states)
          AND (wanted_workflow IS NULL OR r.workflow = wanted_workflow)
          AND (is_out IS NULL OR w.out = is_out)
          AND (wanted_q IS NULL OR r.id = exactly OR starts_with(r.workflow, wanted_q) OR r.error_code = wanted_q OR r.error_step = wanted_q)
          AND NOT EXISTS (SELECT FROM unnest(label_keys, label_values) AS l (key, value)
                           WHERE NOT EXISTS (SELECT FROM ropewalk.run_label x
                                              WHERE x.organisation = ropewalk.current_organisation() AND x.key = l.key
                                                AND x.value = l.value AND x.run_id = r.id))
          AND CASE WHEN families THEN r.parent IS NOT DISTINCT FROM wanted_parent ELSE wanted_parent IS NULL OR r.parent = wanted_parent END $$;

-- What has become of those runs of an operation that are not counted: applied, refused, held (of a quarantined run), or waits.
CREATE FUNCTION bulk_verdicts(wanted_organisation integer, wanted_operation uuid)
    RETURNS TABLE (run_id uuid, verdict text, code text, message text) LANGUAGE sql STABLE AS
    $$ SELECT b.run_id,
              CASE WHEN b.new_run IS NOT NULL OR e.type IS NOT DISTINCT FROM 40 THEN 'applied'
                   WHEN b.code IS NOT NULL OR c.id IS NULL THEN 'refused'
                   WHEN c.held THEN 'held' ELSE 'waits' END,
              CASE WHEN b.new_run IS NULL AND e.type IS DISTINCT FROM 40 AND c.id IS NULL THEN
                   coalesce(b.code, e.data ->> 'code', 'not_found') END,
              CASE WHEN b.new_run IS NULL AND e.type IS DISTINCT FROM 40 AND c.id IS NULL THEN
                   coalesce(b.message, e.data ->> 'message', 'the run and its verdict are there no longer') END
         FROM ropewalk.bulk_run b
         LEFT JOIN ropewalk.command c ON c.id = b.command AND c.run_id = b.run_id AND c.organisation = b.organisation
         LEFT JOIN LATERAL (SELECT x.type, x.data FROM ropewalk.event x
                             WHERE b.command IS NOT NULL AND c.id IS NULL AND x.run_id = b.run_id AND x.seq > b.after_seq
                               AND x.type IN (40, 41) AND (x.data ->> 'command')::int8 = b.command
                             ORDER BY x.seq LIMIT 1) e ON true
        WHERE b.organisation = wanted_organisation AND b.operation = wanted_operation AND NOT b.counted
          AND (b.command IS NOT NULL OR b.new_run IS NOT NULL OR b.code IS NOT NULL) $$;

-- One look at the operation whose turn it is, if nobody else is at it: counts what has been decided, and asks as many more runs
-- as leave no more than `most` commands out. Gives the shards that have commands, and in how many ms there is something to do
-- next (NULL: nothing is going on). Crosses organisations; what it writes is of the operation's own.
-- Row by row: what the planner believes of an operation that is just there, one row, is wrong by all of them.
CREATE FUNCTION bulk_step(most integer, OUT due_ms integer, OUT shards text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ropewalk, pg_temp AS $$
DECLARE
    o bulk_operation;
    v record;
    command_id bigint;
    done integer := 0; -- applied of this look
    not_done integer := 0;
    is_out integer := 0;
    held integer := 0;
    asked integer := 0;
    told smallint[] := '{}';
BEGIN
    SELECT * INTO o FROM bulk_operation p WHERE p.next_at <= now() ORDER BY p.next_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN -- perhaps somebody is at it
        SELECT greatest(extract(epoch FROM p.next_at - now()) * 1000, 50) INTO due_ms
          FROM bulk_operation p WHERE p.next_at IS NOT NULL ORDER BY p.next_at LIMIT 1;
        RETURN;
    END IF;
    FOR v IN SELECT * FROM bulk_verdicts(o.organisation, o.id) LOOP
        done := done + (v.verdict = 'applied')::integer;
        not_done := not_done + (v.verdict = 'refused')::integer;
        is_out := is_out + (v.verdict = 'waits')::integer;
        held := held + (v.verdict = 'held')::integer;
        IF v.verdict IN ('applied', 'refused') THEN
            UPDATE bulk_run b SET counted = true, code = v.code, message = v.message
             WHERE b.organisation = o.organisation AND b.operation = o.id AND b.run_id = v.run_id;
        END IF;
    END LOOP;
    IF o.kind <> 'rerun' AND o.cancelled_at IS NULL THEN
        FOR v IN SELECT n.run_id, s.shard, EXISTS (SELECT FROM run r WHERE r.id = n.run_id) AS is_there
                   FROM (SELECT w.run_id FROM bulk_run w
                          WHERE w.organisation = o.organisation AND w.operation = o.id AND w.command IS NULL AND w.new_run IS NULL AND w.code IS NULL
                          ORDER BY w.not_before, w.run_id LIMIT greatest(most - is_out, 0)) n
                   JOIN slot s ON s.slot = ('x' || right(n.run_id::text, 3))::bit(12)::int
                  ORDER BY n.run_id LOOP
            asked := asked + 1;
            IF v.is_there THEN
                INSERT INTO command (shard, organisation, run_id, kind, body) VALUES (v.shard, o.organisation, v.run_id, o.kind, o.body)
                RETURNING id INTO command_id;
                UPDATE bulk_run b
                   SET command = command_id,
                       after_seq = coalesce((SELECT e.seq FROM event e WHERE e.run_id = v.run_id ORDER BY e.seq DESC LIMIT 1), 0)
                 WHERE b.organisation = o.organisation AND b.operation = o.id AND b.run_id = v.run_id;
                told := CASE WHEN v.shard = ANY (told) THEN told ELSE told || v.shard END;
            ELSE
                UPDATE bulk_run b SET code = 'not_found', message = 'the run is there no longer'
                 WHERE b.organisation = o.organisation AND b.operation = o.id AND b.run_id = v.run_id;
            END IF;
        END LOOP;
    END IF;
    due_ms := 0;
    shards := nullif(array_to_string(told, ','), '');
    UPDATE bulk_operation p
       SET applied = p.applied + done, refused = p.refused + not_done,
           next_at = CASE
               WHEN done + not_done + asked > 0 THEN clock_timestamp()
               WHEN is_out > 0 THEN clock_timestamp() + interval '100 ms'
               WHEN held > 0 THEN clock_timestamp() + interval '2 s'
               -- what was in hand when it was cancelled may still come to its end
               WHEN p.cancelled_at < now() - interval '1 minute' THEN NULL
               WHEN p.cancelled_at IS NOT NULL THEN clock_timestamp() + interval '2 s'
               WHEN p.applied + p.refused < p.runs THEN clock_timestamp() + interval '500 ms' END
     WHERE p.organisation = o.organisation AND p.id = o.id;
END $$;
REVOKE ALL ON FUNCTION bulk_step FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bulk_step TO ropewalk_gateway;

-- As before, of operations that go on; each operation's runs in their order, by its own index.
CREATE OR REPLACE FUNCTION bulk_rerun_take(each integer, most integer, hold interval)
    RETURNS TABLE (organisation integer, organisation_name text, limits json, operation uuid, run_id uuid, created_by text, body json)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = ropewalk, pg_temp AS
    $$ UPDATE bulk_run b SET not_before = now() + hold
         FROM (SELECT one.*
                 FROM (SELECT DISTINCT organisation FROM bulk_operation WHERE kind = 'rerun' AND next_at IS NOT NULL AND cancelled_at IS NULL) turn
                CROSS JOIN LATERAL (SELECT r.organisation, r.operation, r.run_id
                                      FROM bulk_operation p
                                     CROSS JOIN LATERAL (SELECT w.* FROM bulk_run w
                                                          WHERE w.organisation = p.organisation AND w.operation = p.id AND w.command IS NULL
                                                            AND w.new_run IS NULL AND w.code IS NULL AND w.not_before <= now()
                                                          ORDER BY w.not_before, w.run_id LIMIT each FOR UPDATE SKIP LOCKED) r
                                     WHERE p.organisation = turn.organisation AND p.kind = 'rerun' AND p.next_at IS NOT NULL AND p.cancelled_at IS NULL
                                     LIMIT each) one
                LIMIT most) taken
         JOIN bulk_operation p ON p.organisation = taken.organisation AND p.id = taken.operation
         JOIN organisation o ON o.id = taken.organisation
        WHERE b.organisation = taken.organisation AND b.operation = taken.operation AND b.run_id = taken.run_id
       RETURNING b.organisation, o.name, o.limits, b.operation, b.run_id, p.created_by, p.body $$;
