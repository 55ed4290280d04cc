-- An organisation's own limit of running runs is cut to what the installation allows now, wherever it was set when more was allowed:
-- whoever applies admissions says what that is (ropewalk.most_running_runs of the transaction; a former release says nothing).
CREATE OR REPLACE FUNCTION admission_bound(k admission_key, asked integer, own integer) RETURNS integer LANGUAGE sql STABLE AS
    $$ SELECT coalesce(CASE WHEN k.workflow IS NULL AND own IS NOT NULL
                            THEN least(own, nullif(current_setting('ropewalk.most_running_runs', true), '')::integer) END,
                       asked, 2147483647) $$;
