-- Runs of operations that are to be done again, of every organisation (SECURITY DEFINER), and held for the time given.
-- $1 int4 of an organisation at most  $2 int4 at most  $3 int4 how long they are held, in ms
-- Columns: organisation int4, its name text, its own limits json, operation uuid, run uuid, prefix of the API key text, body json.
-- Indexes: bulk_operation_next, bulk_run_waiting. Locks: the rows, those that are locked are passed over.
SELECT organisation, organisation_name, limits, operation, run_id, created_by, body
  FROM bulk_rerun_take($1, $2, $3::int4 * interval '1 ms')
