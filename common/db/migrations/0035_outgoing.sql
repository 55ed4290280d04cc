-- What is told of runs to others: endpoints of an organisation, and a row for each event and endpoint, written in the transaction
-- of the event. Gateways send them.
CREATE TABLE endpoint (
    organisation    integer NOT NULL REFERENCES organisation,
    id              uuid NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('webhook', 'exchange')),
    url             text,                        -- of a webhook
    description     text NOT NULL,
    types           text[],                      -- of events; NULL: all
    workflows       text[],                      -- by name; NULL: all
    enabled         boolean NOT NULL,
    disabled_reason text,                        -- 'asked', 'gone' (it answered 410)
    disabled_at     timestamptz,
    secret          integer NOT NULL DEFAULT 1,  -- in use: number of the secret '#ID.NUMBER'
    old_secret      integer,                     -- signs too, until then
    old_secret_until timestamptz,
    failing_since   timestamptz,                 -- no attempt has succeeded since
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    created_by      text NOT NULL,               -- prefix of the API key
    PRIMARY KEY (organisation, id),
    CHECK ((kind = 'webhook') = (url IS NOT NULL))
);
CREATE UNIQUE INDEX endpoint_id ON endpoint (id);
CREATE UNIQUE INDEX endpoint_exchange ON endpoint (organisation) WHERE kind = 'exchange';

CREATE TABLE outgoing (
    organisation integer NOT NULL,
    endpoint     uuid NOT NULL,
    event        text COLLATE "C" NOT NULL,      -- its id: the same however often it is sent; sorts by run and place in its history
    type         text NOT NULL,
    run_id       uuid,                           -- NULL: it tries the endpoint
    at           timestamptz NOT NULL,           -- of the event
    body         json NOT NULL,                  -- the CloudEvent, sent byte for byte
    status       text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'failed')),
    attempts     integer NOT NULL DEFAULT 0,     -- begun, all
    tries        integer NOT NULL DEFAULT 0,     -- ended, since it was last asked for: place in the schedule
    next_at      timestamptz,                    -- pending: the next attempt, or until when a gateway has it in hand
    held         boolean NOT NULL DEFAULT false, -- a gateway has
    expires_at   timestamptz NOT NULL DEFAULT now() + interval '7 days',
    PRIMARY KEY (organisation, endpoint, event)
);
CREATE INDEX outgoing_due ON outgoing (endpoint, next_at) WHERE next_at IS NOT NULL;
CREATE INDEX outgoing_held ON outgoing (endpoint) WHERE held;
CREATE INDEX outgoing_expiry ON outgoing (expires_at);

CREATE TABLE outgoing_attempt (
    organisation integer NOT NULL,
    endpoint     uuid NOT NULL,
    event        text COLLATE "C" NOT NULL,
    attempt      integer NOT NULL,
    at           timestamptz NOT NULL,           -- when it ended
    took_us      integer NOT NULL,
    status       smallint,                       -- of the answer; NULL: there was none
    error        text,                           -- why there was none
    answer       text,                           -- the first 1 KiB
    gateway      text NOT NULL,
    PRIMARY KEY (organisation, endpoint, event, attempt),
    FOREIGN KEY (organisation, endpoint, event) REFERENCES outgoing ON DELETE CASCADE
);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['endpoint', 'outgoing', 'outgoing_attempt'] LOOP
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
GRANT SELECT, INSERT, UPDATE, DELETE ON endpoint, outgoing TO ropewalk_gateway;
GRANT SELECT, INSERT ON outgoing_attempt TO ropewalk_gateway;
GRANT SELECT ON endpoint TO ropewalk_scheduler;
GRANT SELECT, INSERT, DELETE ON outgoing TO ropewalk_scheduler;

-- The secrets that endpoints sign with are sealed, and sealed anew, like all others; nobody reaches them by name.
ALTER TABLE secret DROP CONSTRAINT secret_name_check;
ALTER TABLE secret ADD CONSTRAINT secret_name_check CHECK (name ~ '^([A-Za-z_][A-Za-z0-9_]{0,62}|#[0-9a-f-]{36}\.[0-9]{1,9})$');

-- Schedulers ask nothing of who is told while nobody is. Odd: somebody is. It counts, so that what was read earlier and is heard
-- of later is known to be old.
ALTER TABLE organisation ADD COLUMN outgoing integer NOT NULL DEFAULT 0;
CREATE FUNCTION endpoint_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = ropewalk, pg_temp AS $$
DECLARE
    one integer := coalesce(NEW.organisation, OLD.organisation);
BEGIN
    -- the row first: two changes at a time see each other
    PERFORM FROM organisation WHERE id = one FOR NO KEY UPDATE;
    UPDATE organisation o SET outgoing = outgoing + 1, changed_at = now()
     WHERE o.id = one AND (o.outgoing % 2 = 1) <> EXISTS (SELECT FROM endpoint e WHERE e.organisation = one AND e.enabled);
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION endpoint_changed FROM PUBLIC;
CREATE TRIGGER endpoint_changed AFTER INSERT OR DELETE OR UPDATE OF enabled ON endpoint FOR EACH ROW EXECUTE FUNCTION endpoint_changed();

-- What is due, of every organisation, `each` of an endpoint at most with what is in hand of it already, anywhere; of one that
-- fails, `each_failing`, and no more than `most_failing` of all such. Nobody else is given them for the time of `hold`. Endpoints
-- are found by leaps over the index: one with a million rows costs as much as one with one. Crosses organisations: what is done
-- with a row is done as its own.
CREATE FUNCTION outgoing_take(wanted text, each integer, each_failing integer, most integer, most_failing integer, hold interval)
    RETURNS TABLE (organisation integer, organisation_name text, endpoint uuid, url text, secret integer, old_secret integer,
                   failing boolean, event text, type text, body json, attempt integer, tries integer)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ropewalk, pg_temp AS $$
#variable_conflict use_column
DECLARE
    e record;
    room integer;
    taken integer;
BEGIN
    FOR e IN
        WITH RECURSIVE turn AS (
            (SELECT o.endpoint, o.next_at FROM outgoing o WHERE o.next_at IS NOT NULL ORDER BY o.endpoint, o.next_at LIMIT 1)
            UNION ALL
            SELECT n.endpoint, n.next_at FROM turn CROSS JOIN LATERAL (
                SELECT o.endpoint, o.next_at FROM outgoing o
                 WHERE o.next_at IS NOT NULL AND o.endpoint > turn.endpoint ORDER BY o.endpoint, o.next_at LIMIT 1) n)
        SELECT p.*, o.name FROM turn JOIN endpoint p ON p.id = turn.endpoint JOIN organisation o ON o.id = p.organisation
         WHERE turn.next_at <= now() AND p.enabled AND p.kind = wanted
         ORDER BY p.failing_since IS NOT NULL, turn.next_at LIMIT 1000
    LOOP
        EXIT WHEN most <= 0;
        CONTINUE WHEN e.failing_since IS NOT NULL AND most_failing <= 0;
        -- who has the row counts alone; what others have taken before is seen by the next statement
        PERFORM FROM endpoint p WHERE p.organisation = e.organisation AND p.id = e.id AND p.enabled FOR NO KEY UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        SELECT least(most, CASE WHEN e.failing_since IS NULL THEN each ELSE least(each_failing, most_failing) END - count(*)) INTO room
          FROM outgoing o WHERE o.endpoint = e.id AND o.held AND o.next_at > now();
        CONTINUE WHEN room <= 0;
        RETURN QUERY -- materialised: in a join the limit would hold for each time that it is read
            WITH due AS MATERIALIZED (SELECT d.event FROM outgoing d WHERE d.endpoint = e.id AND d.next_at <= now()
                                       ORDER BY d.next_at LIMIT room FOR UPDATE SKIP LOCKED)
            UPDATE outgoing o SET next_at = now() + hold, held = true, attempts = o.attempts + 1
              FROM due
             WHERE o.organisation = e.organisation AND o.endpoint = e.id AND o.event = due.event
         RETURNING o.organisation, e.name, o.endpoint, e.url, e.secret,
                   CASE WHEN e.old_secret_until > now() THEN e.old_secret END, e.failing_since IS NOT NULL,
                   o.event, o.type, o.body, o.attempts, o.tries;
        GET DIAGNOSTICS taken = ROW_COUNT;
        most := most - taken;
        IF e.failing_since IS NOT NULL THEN
            most_failing := most_failing - taken;
        END IF;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION outgoing_take FROM PUBLIC;
GRANT EXECUTE ON FUNCTION outgoing_take TO ropewalk_gateway;
