-- Deletes the organisation's retired data keys that nothing is sealed with any more.
-- Index: secret_key_version. Locks the rows that go.
DELETE FROM data_key k
 WHERE k.organisation = current_organisation() AND k.retired_at IS NOT NULL
   AND NOT EXISTS (SELECT FROM secret s WHERE s.organisation = k.organisation AND s.key_version = k.version)
