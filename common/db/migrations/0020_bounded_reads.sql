-- What a person asks costs no more than it has to.

-- The last event of each run when the operation was asked for: the verdict on its command comes after it, so it is looked for
-- from there, not from the beginning of histories that may be long. 0: of before this migration.
ALTER TABLE bulk_run ADD COLUMN after_seq integer NOT NULL DEFAULT 0;

-- How many tasks of the organisation opened before `at` in a pool and priority. An index would cost every step more than an answer
-- to one person is worth, and row-level security lets a query stop only after it has found rows of its own; so `rows` rows are
-- looked at, whosever they are, and when there are more the answer is a lower bound.
CREATE FUNCTION work_ahead(wanted_pool text, wanted_priority smallint, at timestamptz, rows integer)
    RETURNS TABLE (ahead bigint, whole boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ropewalk, pg_temp AS
    $$ SELECT count(*) FILTER (WHERE kind = 1 AND organisation = current_organisation() AND pool = wanted_pool
                                     AND priority = wanted_priority AND opened_at < at), count(*) < rows
         FROM (SELECT kind, organisation, pool, priority, opened_at FROM open_work LIMIT rows) w $$;
REVOKE ALL ON FUNCTION work_ahead FROM PUBLIC;
GRANT EXECUTE ON FUNCTION work_ahead TO ropewalk_gateway;
