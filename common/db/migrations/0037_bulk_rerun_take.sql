-- As before, with what is taken materialised: in a join a limit holds for each time that it is read, and rows that are locked are
-- passed over the next time, so that more might be taken than was asked for.
CREATE OR REPLACE FUNCTION bulk_rerun_take(each integer, most integer, hold interval)
    RETURNS TABLE (organisation integer, organisation_name text, limits json, operation uuid, run_id uuid, created_by text, body json)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = ropewalk, pg_temp AS
    $$ WITH taken AS MATERIALIZED (
           SELECT one.*
             FROM (SELECT DISTINCT organisation FROM bulk_operation WHERE kind = 'rerun' AND next_at IS NOT NULL AND cancelled_at IS NULL) turn
            CROSS JOIN LATERAL (SELECT r.organisation, r.operation, r.run_id
                                  FROM bulk_operation p
                                 CROSS JOIN LATERAL (SELECT w.* FROM bulk_run w
                                                      WHERE w.organisation = p.organisation AND w.operation = p.id AND w.command IS NULL
                                                        AND w.new_run IS NULL AND w.code IS NULL AND w.not_before <= now()
                                                      ORDER BY w.not_before, w.run_id LIMIT each FOR UPDATE SKIP LOCKED) r
                                 WHERE p.organisation = turn.organisation AND p.kind = 'rerun' AND p.next_at IS NOT NULL AND p.cancelled_at IS NULL
                                 LIMIT each) one
            LIMIT most)
       UPDATE bulk_run b SET not_before = now() + hold
         FROM taken
         JOIN bulk_operation p ON p.organisation = taken.organisation AND p.id = taken.operation
         JOIN organisation o ON o.id = taken.organisation
        WHERE b.organisation = taken.organisation AND b.operation = taken.operation AND b.run_id = taken.run_id
       RETURNING b.organisation, o.name, o.limits, b.operation, b.run_id, p.created_by, p.body $$;
