-- Starts of these workflows that commit together keep :disable and DELETE waiting until they have committed.
-- $1 text[] names
-- Locks: advisory 1919119218 per workflow, shared, in order, until the transaction ends. Columns: none of use.
SELECT pg_advisory_xact_lock_shared(1919119218, lock)
  FROM (SELECT DISTINCT hashtext(current_organisation() || '/' || name) AS lock FROM unnest($1::text[]) AS name ORDER BY 1) l
