-- Steps that wait for an event. Their row of open work says for which, and how far they have looked for it among those that came
-- before. Both sides, a wait that begins and an event that arrives, meet exactly once: gateway/README.md, "Steps that wait".
ALTER TABLE open_work
    ADD COLUMN event_type   text,        -- NULL: it waits for none
    ADD COLUMN event_source text,        -- NULL: from any source
    ADD COLUMN event_since  timestamptz, -- it is still to be looked for among those of this time and later; NULL: it has been,
    ADD COLUMN event_seen   bigint;      -- ... and whoever takes an event tells it. Of those of that time: later than this number

CREATE OR REPLACE FUNCTION open_work_name(kind smallint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT CASE kind WHEN 1 THEN 'task' WHEN 2 THEN 'backoff' WHEN 3 THEN 'delay' WHEN 4 THEN 'run_timeout'
                        WHEN 5 THEN 'unknown_outcome' WHEN 6 THEN 'items' WHEN 7 THEN 'signal' WHEN 8 THEN 'child'
                        WHEN 9 THEN 'admission' WHEN 10 THEN 'event' ELSE 'kind ' || kind END $$;

-- ... and its event is step.listening (35).
CREATE OR REPLACE VIEW v_steps WITH (security_invoker = true) AS
    SELECT o.name AS organisation, s.run_id, s.step,
           CASE WHEN n.type IN (31, 33) THEN n.data ->> 'as'
                WHEN n.type = 32 THEN 'pending'
                WHEN n.type = 34 AND right(s.step, 1) = ']' THEN 'running'
                WHEN n.type IN (34, 35) THEN 'waiting'
                WHEN n.type >= 24 THEN substr(t.name, 6)
                WHEN n.type = 21 THEN 'running'
                WHEN n.type = 20 THEN 'queued'
                ELSE 'waiting' END AS status,
           s.attempts, s.ready_at, s.started_at, CASE WHEN n.type >= 24 AND n.type NOT IN (32, 34, 35) THEN n.at END AS ended_at,
           CASE WHEN n.type >= 24 AND n.type NOT IN (32, 34, 35) THEN n.at END - s.ready_at AS duration,
           f.data ->> 'code' AS error_code, f.data ->> 'message' AS error_text
      FROM (SELECT organisation, run_id, step, max(attempt) AS attempts, min(at) AS ready_at,
                   min(at) FILTER (WHERE type = 21) AS started_at,
                   max(seq) FILTER (WHERE type BETWEEN 20 AND 29 OR type BETWEEN 31 AND 35) AS newest_seq,
                   max(seq) FILTER (WHERE type IN (23, 25, 26, 29)) AS failed_seq
              FROM event WHERE step IS NOT NULL GROUP BY organisation, run_id, step) s
      JOIN organisation o ON o.id = s.organisation
      JOIN event n ON n.run_id = s.run_id AND n.seq = s.newest_seq
      LEFT JOIN event_type t ON t.type = n.type
      LEFT JOIN event f ON f.run_id = s.run_id AND f.seq = s.failed_seq;

-- Events of a type arrive side by side; while waits look for those that came before, none of their type does.
CREATE FUNCTION event_type_lock(organisation integer, type text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT hashtext(organisation || '/' || type) $$;

-- In triggers, so that gateways of the release before do it, too. Its time is that of the lock: later than that of any event
-- that a wait has passed by.
CREATE FUNCTION incoming_event_comes() RETURNS trigger LANGUAGE plpgsql SET search_path = ropewalk, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1919119221, event_type_lock(NEW.organisation, NEW.type));
    NEW.at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE FUNCTION incoming_event_wakes() RETURNS trigger LANGUAGE plpgsql SET search_path = ropewalk, pg_temp AS $$
BEGIN
    INSERT INTO command (shard, organisation, run_id, kind, body)
    SELECT s.shard, o.organisation, o.run_id, 'event',
           json_build_object('seq', o.seq, 'number', NEW.number, 'bytes', octet_length(NEW.event::text))
      FROM open_work o JOIN slot s ON s.slot = run_slot(o.run_id)
     WHERE o.organisation = NEW.organisation AND o.event_type = NEW.type AND o.event_type IS NOT NULL AND o.event_since IS NULL
       AND (o.event_source IS NULL OR o.event_source = NEW.source);
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION incoming_event_comes, incoming_event_wakes FROM PUBLIC;
GRANT EXECUTE ON FUNCTION incoming_event_comes, incoming_event_wakes TO ropewalk_gateway;
CREATE TRIGGER incoming_event_comes BEFORE INSERT ON incoming_event FOR EACH ROW EXECUTE FUNCTION incoming_event_comes();
CREATE TRIGGER incoming_event_wakes AFTER INSERT ON incoming_event FOR EACH ROW EXECUTE FUNCTION incoming_event_wakes();

-- Waits of one type that are still to look for what came before them are told, oldest first: `page` events of each at a time, the
-- next when those are done with. told: how many commands; remaining: there are others, or they are not through.
CREATE FUNCTION event_look(shards smallint[], most integer, page integer, OUT told bigint, OUT remaining boolean)
    LANGUAGE plpgsql VOLATILE SET search_path = ropewalk, pg_temp AS $$
DECLARE
    pick record;
BEGIN
    told := 0;
    -- any of them, so that one whose events do not come to their end holds up no other
    SELECT d.organisation, d.event_type INTO pick
      FROM (SELECT o.organisation, o.event_type FROM open_work o
             WHERE o.shard = ANY (shards) AND o.event_since IS NOT NULL
               AND NOT EXISTS (SELECT FROM command c WHERE c.run_id = o.run_id AND c.kind = 'event') LIMIT 1000) d
     ORDER BY random() LIMIT 1;
    IF FOUND THEN
        PERFORM set_config('lock_timeout', '250ms', true);
        PERFORM pg_advisory_xact_lock(1919119221, event_type_lock(pick.organisation, pick.event_type));
        -- What is in a batch's hands now is left for the next time: nobody is waited for while rows are held here.
        WITH due AS MATERIALIZED (
            SELECT o.shard, o.run_id, o.seq, o.event_source, o.event_since, o.event_seen FROM open_work o
             WHERE o.shard = ANY (shards) AND o.event_since IS NOT NULL AND o.organisation = pick.organisation
               AND o.event_type = pick.event_type
               AND NOT EXISTS (SELECT FROM command c WHERE c.run_id = o.run_id AND c.kind = 'event')
             LIMIT most FOR UPDATE SKIP LOCKED),
        found AS MATERIALIZED (
            SELECT d.run_id, d.seq, e.at, e.number, e.bytes
              FROM due d
             CROSS JOIN LATERAL (SELECT i.at, i.number, octet_length(i.event::text) AS bytes FROM incoming_event i
                                  WHERE i.organisation = pick.organisation AND i.type = pick.event_type
                                    AND (i.at, i.number) > (d.event_since, d.event_seen)
                                    AND (d.event_source IS NULL OR i.source = d.event_source)
                                  ORDER BY i.at, i.number LIMIT page) e),
        commands AS (
            INSERT INTO command (shard, organisation, run_id, kind, body)
            SELECT s.shard, pick.organisation, f.run_id, 'event',
                   json_build_object('seq', f.seq, 'number', f.number, 'bytes', f.bytes)
              FROM found f JOIN slot s ON s.slot = run_slot(f.run_id)
             ORDER BY f.run_id, f.seq, f.at, f.number
            RETURNING 1),
        passed AS (
            UPDATE open_work o SET event_since = l.at, event_seen = l.number
              FROM due d
              LEFT JOIN LATERAL (SELECT f.at, f.number FROM found f WHERE f.run_id = d.run_id AND f.seq = d.seq
                                  ORDER BY f.at, f.number OFFSET page - 1 LIMIT 1) l ON true
             WHERE o.shard = d.shard AND o.run_id = d.run_id AND o.seq = d.seq)
        SELECT count(*) INTO told FROM commands;
    END IF;
    remaining := EXISTS (SELECT FROM open_work o WHERE o.shard = ANY (shards) AND o.event_since IS NOT NULL);
END $$;
REVOKE ALL ON FUNCTION event_look FROM PUBLIC;
GRANT EXECUTE ON FUNCTION event_look TO ropewalk_scheduler;
