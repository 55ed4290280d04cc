-- Operations on many runs that start new ones: what a rerun takes over has to be worked out run by run, so these are worked off,
-- by any gateway. The row of a run is changed in the transaction that starts its new run: whoever tries it once more, and
-- whenever, finds that it is done.
ALTER TABLE bulk_operation ADD COLUMN body json;                                  -- what is asked of each run; NULL: its command says it
ALTER TABLE bulk_run ALTER COLUMN command DROP NOT NULL;                          -- NULL: a new run is started
ALTER TABLE bulk_run ADD COLUMN new_run uuid;                                     -- it has been
ALTER TABLE bulk_run ADD COLUMN code text;                                        -- it will not be, and why
ALTER TABLE bulk_run ADD COLUMN message text;
ALTER TABLE bulk_run ADD COLUMN not_before timestamptz NOT NULL DEFAULT now();    -- a gateway has it in hand, or it was too much just then
CREATE INDEX bulk_run_open ON bulk_run (organisation, not_before) WHERE command IS NULL AND new_run IS NULL AND code IS NULL;
CREATE INDEX bulk_operation_worked_off ON bulk_operation (organisation) WHERE body IS NOT NULL;
GRANT UPDATE (new_run, code, message, not_before) ON bulk_run TO ropewalk_gateway;

-- Runs to be done again, `each` of every organisation at most, so that none waits behind another's; nobody else is given them
-- for the time of `hold`. Crosses organisations: what is done with a row is done as its own.
CREATE FUNCTION bulk_rerun_take(each integer, most integer, hold interval)
    RETURNS TABLE (organisation integer, organisation_name text, limits json, operation uuid, run_id uuid, created_by text, body json)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = ropewalk, pg_temp AS
    $$ UPDATE bulk_run b SET not_before = now() + hold
         FROM (SELECT one.*
                 FROM (SELECT DISTINCT organisation FROM bulk_operation WHERE body IS NOT NULL) turn
                CROSS JOIN LATERAL (SELECT r.organisation, r.operation, r.run_id FROM bulk_run r
                                     WHERE r.organisation = turn.organisation AND r.command IS NULL AND r.new_run IS NULL
                                       AND r.code IS NULL AND r.not_before <= now()
                                     ORDER BY r.not_before LIMIT each FOR UPDATE SKIP LOCKED) one
                LIMIT most) taken
         JOIN bulk_operation p ON p.organisation = taken.organisation AND p.id = taken.operation
         JOIN organisation o ON o.id = taken.organisation
        WHERE b.organisation = taken.organisation AND b.operation = taken.operation AND b.run_id = taken.run_id
       RETURNING b.organisation, o.name, o.limits, b.operation, b.run_id, p.created_by, p.body $$;
REVOKE ALL ON FUNCTION bulk_rerun_take FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bulk_rerun_take TO ropewalk_gateway;
