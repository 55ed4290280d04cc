-- Waits for starts of this workflow that are being committed and keeps new ones waiting (they hold it shared), so that
-- after :disable is answered no run starts.
-- $1 text name. Locks: advisory 1919119218 exclusive, until the transaction ends. Columns: none of use.
SELECT pg_advisory_xact_lock(1919119218, hashtext(current_organisation() || '/' || $1::text))
