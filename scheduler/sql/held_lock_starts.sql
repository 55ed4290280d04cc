-- Runs that are started here commit before :disable and DELETE of their workflows are answered, or not at all.
-- $1 text[] ORGANISATION/WORKFLOW
-- Locks: advisory 1919119218 per workflow, shared, in order, until the transaction ends. Columns: none of use.
SELECT pg_advisory_xact_lock_shared(1919119218, lock)
  FROM (SELECT DISTINCT hashtext(name) AS lock FROM unnest($1::text[]) AS name ORDER BY 1) l
