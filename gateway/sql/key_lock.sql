-- Revocations of one organisation come one after another, so that an admin key is left.
-- Locks: advisory 1919119220, until the transaction ends. Columns: none of use.
SELECT pg_advisory_xact_lock(1919119220, current_organisation())
