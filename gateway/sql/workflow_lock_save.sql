-- Saves of one workflow come one after another.
-- $1 text name. Locks: advisory 1919119219, until the transaction ends. Columns: none of use.
SELECT pg_advisory_xact_lock(1919119219, hashtext(current_organisation() || '/' || $1::text))
