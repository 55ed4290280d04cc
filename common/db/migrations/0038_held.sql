-- What arrives at a trigger with debounce, throttle or batch. Arrivals with the same value of the trigger's key are a group, whose
-- row is locked by whoever decides about it: a gateway with each arrival, the owner of the group's shard when its time has come.
-- So each decision sees all those before it, over any number of gateways and schedulers, and is one transaction with the start.
-- Times are PostgreSQL's, taken under the lock.
CREATE TABLE held_group (
    organisation integer NOT NULL,
    workflow     text NOT NULL,
    trigger      text NOT NULL,
    how          text NOT NULL CHECK (how IN ('debounce', 'throttle', 'batch')),
    key          text NOT NULL,                      -- the key's value as JSON, or its hash; '' without a key
    id           bigint NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    slot         smallint NOT NULL,                  -- of the runs that its owner starts
    shard        smallint NOT NULL,
    rule         json NOT NULL DEFAULT '{}',         -- as the document of the last arrival has it: held_take()
    waiting      integer NOT NULL DEFAULT 0,         -- arrivals that wait
    bytes        bigint NOT NULL DEFAULT 0,          -- of them
    first_at     timestamptz,                        -- the first of them came
    starts       timestamptz[] NOT NULL DEFAULT '{}', -- of a throttle, those that still count, oldest first
    due_at       timestamptz NOT NULL,               -- when the owner has to look at it; one that is of no more use is removed then
    PRIMARY KEY (organisation, workflow, trigger, how, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE INDEX held_group_due ON held_group (due_at);

CREATE TABLE held_item (
    held_group   bigint NOT NULL,
    number       bigint NOT NULL GENERATED ALWAYS AS IDENTITY, -- within a group in the order of arrival: given under its lock
    organisation integer NOT NULL,
    at           timestamptz NOT NULL,
    input        json NOT NULL,
    document     json NOT NULL,                      -- what expressions read as .trigger
    delivery     uuid,                               -- its line of the delivery log
    PRIMARY KEY (held_group, number)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE INDEX held_item_organisation ON held_item (organisation);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['held_group', 'held_item'] LOOP
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
GRANT SELECT, INSERT, UPDATE, DELETE ON held_group, held_item TO ropewalk_gateway;
GRANT SELECT, UPDATE, DELETE ON held_group, held_item TO ropewalk_scheduler;

-- The answer that a key stands for when its request started no run: debounced, batched, queued, dropped.
ALTER TABLE idempotency ADD COLUMN held text;
GRANT UPDATE (held) ON idempotency TO ropewalk_gateway;
-- The run of a delivery, or of an event, that has waited.
GRANT UPDATE (run_id) ON delivery TO ropewalk_gateway, ropewalk_scheduler;
GRANT UPDATE (starts) ON incoming_event TO ropewalk_gateway;

-- Locks groups, in order, those that there are not yet after making them. A statement of its own before those that decide, so
-- that their snapshots are taken under the locks.
CREATE FUNCTION held_lock(workflows text[], triggers text[], hows text[], keys text[], slots smallint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    a record;
BEGIN
    FOR a IN SELECT DISTINCT ON (u.workflow, u.trigger, u.how, u.key) u.workflow, u.trigger, u.how, u.key, s.slot, s.shard
               FROM unnest(workflows, triggers, hows, keys, slots) AS u (workflow, trigger, how, key, slot)
               JOIN slot s ON s.slot = u.slot
              ORDER BY u.workflow, u.trigger, u.how, u.key LOOP
        LOOP
            PERFORM FROM held_group g
              WHERE g.organisation = current_organisation() AND g.workflow = a.workflow AND g.trigger = a.trigger
                AND g.how = a.how AND g.key = a.key FOR UPDATE;
            EXIT WHEN FOUND;
            INSERT INTO held_group (organisation, workflow, trigger, how, key, slot, shard, due_at)
            VALUES (current_organisation(), a.workflow, a.trigger, a.how, a.key, a.slot, a.shard, clock_timestamp() + interval '10 seconds')
            ON CONFLICT DO NOTHING;
        END LOOP;
    END LOOP;
END $$;

-- Starts a run of what waits in a group: of a batch of all of it, else of the oldest.
CREATE FUNCTION held_release(g held_group, run uuid, run_shard smallint, of_version integer, of_priority smallint, created timestamptz,
                             start_at text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    document json;
    input json;
    deliveries uuid[];
    last_number bigint;
BEGIN
    IF g.how = 'batch' THEN
        SELECT json_build_object('name', g.trigger, 'kind', (array_agg(i.document ->> 'kind' ORDER BY i.number))[1],
                                 'received_at', (array_agg(i.document -> 'received_at' ORDER BY i.number))[1],
                                 'batch', json_agg(i.document ORDER BY i.number)),
               json_agg(i.input ORDER BY i.number), array_agg(i.delivery), max(i.number)
          INTO document, input, deliveries, last_number
          FROM held_item i WHERE i.held_group = g.id;
    ELSE
        SELECT i.document, i.input, ARRAY[i.delivery], i.number INTO document, input, deliveries, last_number
          FROM held_item i WHERE i.held_group = g.id ORDER BY i.number LIMIT 1;
    END IF;
    INSERT INTO run (id, organisation, workflow, version, priority, created_at, input, trigger, begins)
    VALUES (run, g.organisation, g.workflow, of_version, of_priority, created, input, document,
            CASE WHEN start_at IS NOT NULL THEN json_build_object('start_at_step', start_at) END);
    INSERT INTO command (shard, organisation, run_id, kind, body)
    VALUES (run_shard, g.organisation, run, CASE WHEN start_at IS NULL THEN 'start' ELSE 'begin' END,
            CASE WHEN start_at IS NOT NULL THEN json_build_object('start_at_step', start_at) END);
    UPDATE delivery d SET run_id = run WHERE d.organisation = g.organisation AND d.id = ANY (deliveries);
    DELETE FROM held_item i WHERE i.held_group = g.id AND i.number <= last_number;
END $$;

-- Of the starts of a throttle those that count at `at`, and when the next may be, given that nothing else is started.
CREATE FUNCTION held_counting(starts timestamptz[], at timestamptz, per interval) RETURNS timestamptz[] LANGUAGE sql IMMUTABLE AS
    $$ SELECT ARRAY(SELECT s FROM unnest(starts) AS s WHERE s > at - per ORDER BY s) $$;
CREATE FUNCTION held_next(starts timestamptz[], most integer, at timestamptz, per interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
    $$ SELECT CASE WHEN cardinality(starts) < most THEN at ELSE starts[cardinality(starts) - most + 1] + per END $$;

-- Takes one arrival. Its group is locked; `total` is how many arrivals of the organisation waited before.
-- rule: {"how", "key", "period_us", "timeout_us", "limit", "per_us", "queues", "max_waiting", "max_size", "max_bytes", "most" (of the
-- organisation)}, those that its kind has. Gives started (then the run is made, of a batch from all that waited), debounced, batched,
-- queued or dropped. RW002: it would have to wait where there is no room for it.
CREATE FUNCTION held_take(of_workflow text, of_trigger text, of_rule json, run uuid, run_slot smallint, of_version integer,
                          of_priority smallint, created timestamptz, start_at text, of_input json, of_document json, of_delivery uuid,
                          total bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    g held_group;
    at timestamptz := clock_timestamp();
    per interval := (of_rule ->> 'per_us')::bigint * interval '1 microsecond';
    period interval := (of_rule ->> 'period_us')::bigint * interval '1 microsecond';
    longest interval := (of_rule ->> 'timeout_us')::bigint * interval '1 microsecond';
    size bigint := octet_length(of_input::text) + octet_length(of_document::text);
    run_shard smallint := (SELECT s.shard FROM slot s WHERE s.slot = run_slot);
BEGIN
    SELECT * INTO STRICT g FROM held_group x
     WHERE x.organisation = current_organisation() AND x.workflow = of_workflow AND x.trigger = of_trigger
       AND x.how = of_rule ->> 'how' AND x.key = of_rule ->> 'key';
    g.rule := of_rule;
    IF g.how = 'throttle' THEN
        g.starts := held_counting(g.starts, at, per);
        IF g.waiting = 0 AND cardinality(g.starts) < (of_rule ->> 'limit')::integer THEN
            INSERT INTO held_item (held_group, organisation, at, input, document, delivery)
            VALUES (g.id, g.organisation, at, of_input, of_document, of_delivery);
            PERFORM held_release(g, run, run_shard, of_version, of_priority, created, start_at);
            UPDATE held_group x SET rule = g.rule, starts = g.starts || at, due_at = at + per WHERE x.id = g.id;
            RETURN 'started';
        END IF;
        IF NOT (of_rule ->> 'queues')::boolean THEN
            RETURN 'dropped';
        END IF;
        g.due_at := held_next(g.starts, (of_rule ->> 'limit')::integer, at, per);
    ELSIF g.how = 'debounce' THEN
        DELETE FROM held_item i WHERE i.held_group = g.id;
        total := total - g.waiting;
        g.due_at := least(at + period, CASE WHEN g.waiting = 0 THEN at ELSE g.first_at END + longest);
        g.first_at := CASE WHEN g.waiting = 0 THEN at ELSE g.first_at END;
        g.waiting := 0;
        g.bytes := 0;
    ELSIF g.waiting = 0 THEN
        g.due_at := at + longest;
    END IF;
    IF total >= (of_rule ->> 'most')::bigint OR g.waiting >= (of_rule ->> 'max_waiting')::integer THEN
        RAISE EXCEPTION 'as many arrivals wait as may' USING ERRCODE = 'RW002';
    END IF;
    INSERT INTO held_item (held_group, organisation, at, input, document, delivery)
    VALUES (g.id, g.organisation, at, of_input, of_document, of_delivery);
    g.waiting := g.waiting + 1;
    g.bytes := g.bytes + size;
    IF g.how = 'batch' AND (g.waiting >= (of_rule ->> 'max_size')::integer OR g.bytes >= (of_rule ->> 'max_bytes')::bigint) THEN
        PERFORM held_release(g, run, run_shard, of_version, of_priority, created, start_at);
        DELETE FROM held_group x WHERE x.id = g.id;
        RETURN 'started';
    END IF;
    UPDATE held_group x
       SET rule = g.rule, waiting = g.waiting, bytes = g.bytes, starts = g.starts, due_at = g.due_at, first_at = coalesce(g.first_at, at)
     WHERE x.id = g.id;
    RETURN CASE g.how WHEN 'throttle' THEN 'queued' WHEN 'debounce' THEN 'debounced' ELSE 'batched' END;
END $$;

-- How many arrivals of the organisation wait, as far as `most`.
CREATE FUNCTION held_total(most bigint) RETURNS bigint LANGUAGE sql STABLE AS
    $$ SELECT count(*) FROM (SELECT FROM held_item i WHERE i.organisation = current_organisation() LIMIT most) x $$;

-- Takes arrivals of webhooks, in their order: what sql/start_insert.sql does for starts, and then held_take(). Their groups are
-- locked. Verdicts in the order given: those of held_take(), full, known, replayed, absent, disabled, moved.
CREATE FUNCTION held_take_deliveries(runs uuid[], workflows text[], versions integer[], slots smallint[], priorities smallint[],
                                     created timestamptz[], inputs json[], keys text[], hashes bytea[], starts_at text[], documents json[],
                                     scopes text[], nonces text[], kept integer[], lines json[], rules json[])
    RETURNS TABLE (verdict text, shard smallint) LANGUAGE plpgsql AS $$
DECLARE
    a record;
    w record;
    d record;
    total bigint := held_total((SELECT max((r ->> 'most')::bigint) FROM unnest(rules) AS r));
BEGIN
    FOR a IN SELECT u.*, s.shard
               FROM unnest(runs, workflows, versions, slots, priorities, created, inputs, keys, hashes, starts_at, documents, scopes, nonces,
                           kept, lines, rules) WITH ORDINALITY
                    AS u (run_id, workflow, version, slot, priority, created_at, input, key, body_hash, start_at, document, scope, nonce,
                          kept_s, line, rule, n)
               JOIN slot s ON s.slot = u.slot
              ORDER BY u.n LOOP
        SELECT x.enabled, x.version INTO w FROM workflow x
         WHERE x.organisation = current_organisation() AND x.name = a.workflow AND x.deleted_at IS NULL;
        verdict := CASE WHEN NOT FOUND THEN 'absent' WHEN NOT w.enabled THEN 'disabled' WHEN w.version <> a.version THEN 'moved' END;
        shard := a.shard;
        IF verdict IS NULL THEN
            BEGIN
                IF a.nonce IS NOT NULL THEN
                    INSERT INTO delivery_nonce (organisation, scope, nonce, run_id, expires_at)
                    VALUES (current_organisation(), a.scope, a.nonce, a.run_id, now() + make_interval(secs => a.kept_s))
                    ON CONFLICT DO NOTHING;
                    verdict := CASE WHEN NOT FOUND THEN 'replayed' END;
                END IF;
                IF verdict IS NULL AND a.key IS NOT NULL THEN
                    INSERT INTO idempotency (organisation, scope, key, body_hash, run_id, expires_at)
                    VALUES (current_organisation(), a.workflow, a.key, a.body_hash, a.run_id, now() + interval '24 hours')
                    ON CONFLICT DO NOTHING;
                    verdict := CASE WHEN NOT FOUND THEN 'known' END;
                END IF;
                IF verdict IS NULL THEN
                    SELECT * INTO d FROM json_to_record(a.line)
                        AS l (id uuid, at timestamptz, trigger text, address text, request json, body_bytes integer, excerpt text,
                              took_us integer, redelivered_from uuid, old_secret boolean, audit text);
                    verdict := held_take(a.workflow, d.trigger, a.rule, a.run_id, a.slot, a.version, a.priority, a.created_at, a.start_at,
                                         a.input, a.document, d.id, total);
                    IF verdict <> 'started' AND a.key IS NOT NULL THEN
                        UPDATE idempotency i SET held = verdict
                         WHERE i.organisation = current_organisation() AND i.scope = a.workflow AND i.key = a.key;
                    END IF;
                    total := total + (verdict IN ('queued', 'batched'))::integer;
                    INSERT INTO delivery (organisation, id, at, workflow, trigger, status, stage, reason, address, request, body_bytes,
                                          excerpt, took_us, run_id, redelivered_from, old_secret, audit)
                    VALUES (current_organisation(), d.id, d.at, a.workflow, d.trigger, 202,
                            CASE verdict WHEN 'started' THEN 'start' ELSE 'hold' END, CASE verdict WHEN 'started' THEN 'accepted' ELSE verdict END,
                            d.address, d.request, d.body_bytes, d.excerpt, d.took_us, CASE verdict WHEN 'started' THEN a.run_id END,
                            d.redelivered_from, d.old_secret, d.audit);
                END IF;
            EXCEPTION WHEN SQLSTATE 'RW002' THEN
                verdict := 'full';
            END;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- Looks at groups whose time has come: the owner of their shard does it, in a batch that begins with shard_guard and has locked the
-- starts of their workflows. For each group as many ids of runs as it may start now. What a workflow's newest version says of
-- priority and start_at_step holds; of a workflow that is disabled what waits goes on waiting, of one that is gone it is gone.
CREATE FUNCTION held_fire(groups bigint[], runs uuid[], shards smallint[]) RETURNS TABLE (run_id uuid) LANGUAGE plpgsql AS $$
DECLARE
    f record;
    g held_group;
    w record;
    at timestamptz;
    per interval;
    most integer;
    used integer;
BEGIN
    FOR f IN SELECT u.id, array_agg(u.run ORDER BY u.run) AS runs FROM unnest(groups, runs) AS u (id, run)
              GROUP BY u.id ORDER BY u.id LOOP
        SELECT * INTO g FROM held_group x
         WHERE x.id = f.id AND x.due_at <= clock_timestamp() AND x.shard = ANY (shards) FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        at := clock_timestamp();
        SELECT x.version, x.enabled, p.priority, v.document -> 'triggers' -> g.trigger ->> 'start_at_step' AS start_at INTO w
          FROM workflow x
         CROSS JOIN LATERAL (SELECT convert_from(y.document, 'UTF8')::json AS document FROM workflow_version y
                              WHERE y.organisation = x.organisation AND y.workflow = x.name AND y.version = x.version) v
         CROSS JOIN LATERAL (SELECT CASE v.document ->> 'priority' WHEN 'critical' THEN 0 WHEN 'high' THEN 1 WHEN 'low' THEN 3 ELSE 2
                                    END::smallint AS priority) p
         WHERE x.organisation = g.organisation AND x.name = g.workflow AND x.deleted_at IS NULL;
        IF NOT FOUND OR (g.waiting = 0 AND g.how <> 'throttle') THEN
            DELETE FROM held_item i WHERE i.held_group = g.id;
            DELETE FROM held_group x WHERE x.id = g.id;
            CONTINUE;
        END IF;
        IF NOT w.enabled THEN
            UPDATE held_group x SET due_at = at + interval '2 seconds' WHERE x.id = g.id;
            CONTINUE;
        END IF;
        IF g.how <> 'throttle' THEN
            run_id := f.runs[1];
            PERFORM held_release(g, run_id, g.shard, w.version, w.priority, date_trunc('milliseconds', at), w.start_at);
            DELETE FROM held_group x WHERE x.id = g.id;
            RETURN NEXT;
            CONTINUE;
        END IF;
        per := (g.rule ->> 'per_us')::bigint * interval '1 microsecond';
        most := (g.rule ->> 'limit')::integer;
        g.starts := held_counting(g.starts, at, per);
        used := 0;
        WHILE g.waiting > 0 AND cardinality(g.starts) < most AND used < cardinality(f.runs) LOOP
            used := used + 1;
            run_id := f.runs[used];
            PERFORM held_release(g, run_id, g.shard, w.version, w.priority, date_trunc('milliseconds', at), w.start_at);
            g.waiting := g.waiting - 1;
            g.starts := g.starts || at;
            RETURN NEXT;
        END LOOP;
        IF g.waiting = 0 AND cardinality(g.starts) = 0 THEN
            DELETE FROM held_group x WHERE x.id = g.id;
        ELSE
            UPDATE held_group x
               SET waiting = g.waiting, starts = g.starts,
                   due_at = CASE WHEN g.waiting = 0 THEN g.starts[cardinality(g.starts)] + per ELSE held_next(g.starts, most, at, per) END
             WHERE x.id = g.id;
        END IF;
    END LOOP;
END $$;
