-- The organisation's data key that values are sealed with now. No row: none has been made yet.
-- Columns: version int4, master text, wrapped bytea. Index: data_key_active. No locks.
SELECT version, master, wrapped FROM data_key WHERE organisation = current_organisation() AND retired_at IS NULL
