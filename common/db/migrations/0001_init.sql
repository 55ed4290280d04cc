-- The first schema. Run by the migrator as ropewalk_owner in schema ropewalk, in one transaction, under an advisory lock.
-- Roles: ropewalk_owner owns; ropewalk_gateway and ropewalk_scheduler use, own nothing and bypass nothing.
-- Row-level security is forced on every table that has an organisation. The gateway sees the organisation that
-- ropewalk.organisation names inside the transaction, and nothing without it; the scheduler works across organisations.

CREATE FUNCTION current_organisation() RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT nullif(current_setting('ropewalk.organisation', true), '')::integer $$;

CREATE TABLE installation (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    incarnation  integer NOT NULL DEFAULT 1,     -- raised by a restore or a fail-over to another timeline
    token_key    bytea NOT NULL,                 -- HMAC key of task tokens
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE organisation (
    id           integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name         text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    weight       integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 1000),
    limits       json NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_key (
    organisation integer NOT NULL REFERENCES organisation,
    id           uuid NOT NULL DEFAULT gen_random_uuid(),
    name         text NOT NULL,
    role         text NOT NULL CHECK (role IN ('viewer', 'trigger', 'operator', 'editor', 'admin')),
    prefix       text NOT NULL,
    hash         bytea NOT NULL,                 -- sha256 of the whole key
    created_at   timestamptz NOT NULL DEFAULT now(),
    revoked_at   timestamptz,
    PRIMARY KEY (organisation, id)
);
CREATE UNIQUE INDEX api_key_hash ON api_key (hash);

CREATE TABLE workflow (
    organisation integer NOT NULL REFERENCES organisation,
    name         text NOT NULL,
    version      integer NOT NULL,               -- the newest; a start without a version takes it
    enabled      boolean NOT NULL DEFAULT true,
    deleted_at   timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organisation, name)
);

CREATE TABLE workflow_version (
    organisation integer NOT NULL,
    workflow     text NOT NULL,
    version      integer NOT NULL,
    document     bytea NOT NULL,                 -- byte for byte as it was saved
    hash         bytea NOT NULL,                 -- sha256 of the canonical form without metadata
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text NOT NULL,                  -- prefix of the API key
    PRIMARY KEY (organisation, workflow, version),
    FOREIGN KEY (organisation, workflow) REFERENCES workflow
);

-- One row per run, for lists and searches; the run itself is its events. Partitioned by the time in the id.
CREATE TABLE run (
    id           uuid NOT NULL,
    organisation integer NOT NULL,
    workflow     text NOT NULL,
    version      integer NOT NULL,
    status       text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'active', 'paused', 'succeeded', 'failed',
                 'partially_completed', 'cancelled', 'timed_out', 'compensated', 'compensation_failed')),
    priority     smallint NOT NULL DEFAULT 2,    -- 0 critical, 1 high, 2 normal, 3 low
    created_at   timestamptz NOT NULL,
    started_at   timestamptz,
    ended_at     timestamptz,
    input        json NOT NULL,
    labels       json NOT NULL DEFAULT '{}',
    trigger      json,                           -- {"name", "kind"}
    parent       uuid,
    rerun_of     uuid,
    error_code   text,                           -- of the decisive failure
    error_step   text,
    error_text   text,
    PRIMARY KEY (id),
    FOREIGN KEY (organisation, workflow, version) REFERENCES workflow_version
) PARTITION BY RANGE (id);
CREATE INDEX run_by_time ON run (organisation, id DESC);
CREATE INDEX run_by_workflow ON run (organisation, workflow, id DESC);
CREATE INDEX run_by_status ON run (organisation, status, id DESC);

CREATE TABLE run_label (
    organisation integer NOT NULL,
    key          text NOT NULL,
    value        text NOT NULL,
    run_id       uuid NOT NULL,
    PRIMARY KEY (organisation, key, value, run_id)
);

-- Append-only history. `data` is small and all that the fold reads; `output` is the body, which it never reads.
CREATE TABLE event (
    run_id       uuid NOT NULL,
    seq          integer NOT NULL,
    organisation integer NOT NULL,
    at           timestamptz NOT NULL,
    type         smallint NOT NULL,              -- common/engine/event.def
    step         text,
    attempt      smallint,
    data         json,
    output       json,
    PRIMARY KEY (run_id, seq)
) PARTITION BY RANGE (run_id);

-- One row for each thing a run waits for: outbox, backlog, timer queue, and what a takeover reads, by the primary key and
-- whole. Timers are kept in memory after that, so nothing is found by due_at, and changing it stays a HOT update.
CREATE TABLE open_work (
    shard        smallint NOT NULL,
    run_id       uuid NOT NULL,
    seq          integer NOT NULL,               -- of the event that opened it
    organisation integer NOT NULL,
    kind         smallint NOT NULL,              -- common/engine/work.def: task, timer, ...
    step         text,
    attempt      smallint NOT NULL DEFAULT 0,
    dispatch     integer NOT NULL DEFAULT 0,
    pool         text,
    priority     smallint,
    due_at       timestamptz,
    reason       text,                           -- last reason, for explain
    opened_at    timestamptz NOT NULL,
    PRIMARY KEY (shard, run_id, seq)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
-- For readers, who say "kind > 0" or name a kind. Partial, so that the scheduler's statements can only be planned for the
-- primary key: the table is empty at one moment and full at the next, and a plan made for the empty one must still be good.
CREATE INDEX open_work_run ON open_work (run_id) WHERE kind > 0;

-- What was asked for, in order, until it is applied; the verdict is an event of the run.
CREATE TABLE command (
    id           bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    shard        smallint NOT NULL,
    organisation integer NOT NULL,
    run_id       uuid NOT NULL,
    kind         text NOT NULL,                  -- start, signal, cancel, ...
    body         json,
    reply_to     text,                           -- queue of the gateway that waits for the verdict or the end
    held         boolean NOT NULL DEFAULT false, -- of a quarantined run: kept, not applied
    created_at   timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE INDEX command_waiting ON command (shard, id) WHERE NOT held;
CREATE INDEX command_run ON command (run_id);

-- Uniqueness with an expiry; cannot live on a partitioned table.
CREATE TABLE idempotency (
    organisation integer NOT NULL,
    scope        text NOT NULL,                  -- the workflow's name
    key          text NOT NULL,
    body_hash    bytea NOT NULL,
    run_id       uuid NOT NULL,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (organisation, scope, key)
);
CREATE INDEX idempotency_expiry ON idempotency (expires_at);

-- Who owns what. A scheduler lives as long as its lease; a shard belongs to the incarnation it names while that lives.
CREATE TABLE scheduler (
    name         text PRIMARY KEY,
    incarnation  uuid NOT NULL UNIQUE,           -- of the process
    lease_until  timestamptz NOT NULL,
    format       integer NOT NULL,               -- newest event format it can write
    started_at   timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE TABLE shard (
    shard        smallint PRIMARY KEY,
    owner        text,                           -- scheduler.name
    incarnation  uuid,                           -- of the owning process
    epoch        bigint NOT NULL DEFAULT 0       -- raised by each change of the owner
) WITH (fillfactor = 50);
-- The low 12 bits of a run's id are its slot. May be changed with the schedulers stopped.
CREATE TABLE slot (
    slot         smallint PRIMARY KEY CHECK (slot BETWEEN 0 AND 4095),
    shard        smallint NOT NULL REFERENCES shard
);

CREATE TABLE dead_letter (
    organisation integer,                        -- NULL when the message did not say, or lied
    id           uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
    at           timestamptz NOT NULL DEFAULT now(),
    kind         text NOT NULL,                  -- message, task
    source       text NOT NULL,                  -- the queue
    run_id       uuid,
    step         text,
    reason       text NOT NULL,
    body         bytea
);

CREATE TABLE quarantine (
    run_id       uuid PRIMARY KEY,
    organisation integer NOT NULL,
    shard        smallint NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    reason       text NOT NULL
);

INSERT INTO shard (shard) SELECT s FROM generate_series(0, 15) s;
INSERT INTO slot SELECT s, s % 16 FROM generate_series(0, 4095) s;

-- Fencing: the first statement of every batch. The lock is shared with other batches of this owner and excludes a
-- takeover until the batch has ended; the owner is read by a statement of its own, whose snapshot is taken after the
-- lock. Locks are taken in order, so that batches and takeovers cannot wait for each other in a circle.
CREATE FUNCTION shard_guard(me uuid, shards smallint[], epochs bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    one smallint;
BEGIN
    FOR one IN SELECT DISTINCT s FROM unnest(shards) s ORDER BY s LOOP
        PERFORM pg_advisory_xact_lock_shared(1919119216, one);
    END LOOP;
    IF EXISTS (SELECT FROM unnest(shards, epochs) AS mine (s, e)
               WHERE NOT EXISTS (SELECT FROM shard WHERE shard.shard = s AND shard.epoch = e AND shard.incarnation = me)) THEN
        RAISE EXCEPTION 'a shard of this batch has another owner' USING ERRCODE = 'RW001';
    END IF;
END $$;

-- The uuid bound of a point in time: 48 bits of milliseconds, the rest zero.
CREATE FUNCTION uuid_bound(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS
    $$ SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid $$;

-- Makes the weekly partitions of run and event from the week before `from_at` to `days` days after it; gives the number
-- made. Idempotent. Runs as the owner, because the services own nothing. A table is made first and attached then: that
-- takes no lock that an insert or a reader would wait behind, as CREATE TABLE ... PARTITION OF does. What cannot have its
-- lock soon gives up (55P03) and is tried again by the caller later.
CREATE FUNCTION partitions_ensure(from_at timestamptz, days integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = ropewalk, pg_temp SET timezone = 'UTC' SET lock_timeout = '500ms' AS $$
DECLARE
    week timestamptz := date_trunc('week', from_at) - interval '7 days';
    made integer := 0;
    parent text;
    child text;
BEGIN
    PERFORM pg_advisory_xact_lock(1919119217);
    WHILE week <= from_at + make_interval(days => days) LOOP
        FOREACH parent IN ARRAY ARRAY['run', 'event'] LOOP
            child := parent || '_' || to_char(week, 'YYYYMMDD');
            CONTINUE WHEN to_regclass('ropewalk.' || child) IS NOT NULL;
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', child, parent);
            EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', child);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, child,
                           uuid_bound(week), uuid_bound(week + interval '7 days'));
            made := made + 1;
        END LOOP;
        week := week + interval '7 days';
    END LOOP;
    RETURN made;
END $$;
REVOKE ALL ON FUNCTION partitions_ensure FROM PUBLIC;
GRANT EXECUTE ON FUNCTION partitions_ensure TO ropewalk_scheduler;

-- Row-level security: one permissive and one restrictive policy per table for the gateway, so that a later permissive
-- policy cannot widen it; the scheduler's and the owner's policies say explicitly that they see all organisations.
DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['api_key', 'workflow', 'workflow_version', 'run', 'run_label', 'event', 'open_work', 'command',
                             'idempotency', 'dead_letter', 'quarantine'] LOOP
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
ALTER TABLE organisation ENABLE ROW LEVEL SECURITY;
ALTER TABLE organisation FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON organisation TO ropewalk_gateway USING (id = current_organisation()) WITH CHECK (id = current_organisation());
CREATE POLICY tenant_only ON organisation AS RESTRICTIVE TO ropewalk_gateway USING (id = current_organisation()) WITH CHECK (id = current_organisation());
CREATE POLICY all_organisations ON organisation TO ropewalk_scheduler USING (true);
CREATE POLICY owner ON organisation TO ropewalk_owner USING (true) WITH CHECK (true);

-- Before a request's organisation is known: the key's hash finds it.
CREATE FUNCTION api_key_find(key_hash bytea) RETURNS TABLE (organisation integer, organisation_name text, key_id uuid, role text, prefix text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ropewalk, pg_temp AS
    $$ SELECT k.organisation, o.name, k.id, k.role, k.prefix FROM api_key k JOIN organisation o ON o.id = k.organisation
       WHERE k.hash = key_hash AND k.revoked_at IS NULL $$;
-- Creating an organisation crosses organisations; the gateway calls it for admins of the first one only.
CREATE FUNCTION organisation_create(new_name text, key_name text, key_prefix text, key_hash bytea) RETURNS integer
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = ropewalk, pg_temp AS
    $$ WITH o AS (INSERT INTO organisation (name) VALUES (new_name) RETURNING id)
       INSERT INTO api_key (organisation, name, role, prefix, hash) SELECT id, key_name, 'admin', key_prefix, key_hash FROM o
       RETURNING organisation $$;
REVOKE ALL ON FUNCTION api_key_find, organisation_create FROM PUBLIC;
GRANT EXECUTE ON FUNCTION api_key_find, organisation_create TO ropewalk_gateway;

GRANT SELECT ON schema_migration TO ropewalk_gateway, ropewalk_scheduler;
GRANT SELECT ON slot, shard, scheduler TO ropewalk_gateway;
GRANT SELECT, UPDATE (limits, weight) ON organisation TO ropewalk_gateway;
GRANT SELECT, INSERT, UPDATE ON api_key, workflow TO ropewalk_gateway;
GRANT SELECT, INSERT ON workflow_version, run, run_label, command, idempotency TO ropewalk_gateway;
GRANT DELETE ON idempotency TO ropewalk_gateway;
GRANT SELECT ON event, open_work, dead_letter, quarantine TO ropewalk_gateway;

GRANT SELECT ON installation, organisation, workflow, workflow_version, slot, idempotency TO ropewalk_scheduler;
GRANT SELECT, INSERT, UPDATE, DELETE ON scheduler, open_work, command, run_label, dead_letter, quarantine
    TO ropewalk_scheduler;
GRANT DELETE ON idempotency TO ropewalk_scheduler;
GRANT SELECT, UPDATE ON shard TO ropewalk_scheduler;
GRANT SELECT, INSERT, UPDATE ON run TO ropewalk_scheduler;
GRANT SELECT, INSERT ON event TO ropewalk_scheduler;

SELECT partitions_ensure(now(), 42);
