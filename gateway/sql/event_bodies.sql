-- Bodies of certain events of a run, where others point to them.
-- $1 uuid run  $2 int4[] seq
-- Columns: seq int4, output's length int4 (0: none), output json when it is short enough to be shown. Primary key. No locks.
SELECT e.seq, coalesce(octet_length(e.output::text), 0), CASE WHEN octet_length(e.output::text) <= 4096 THEN e.output END
  FROM event e
 WHERE e.run_id = $1 AND e.seq = ANY ($2::int4[]) AND e.organisation = current_organisation()
