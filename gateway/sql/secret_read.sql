-- A secret as it is stored, with the data key that it is sealed with.
-- $1 text name
-- Columns: key_version int4, master text, wrapped bytea, box bytea, stale bool (its use was last noted over a minute ago).
-- Primary keys. No locks.
SELECT s.key_version, k.master, k.wrapped, s.box, coalesce(s.last_used_at < now() - interval '1 minute', true)
  FROM secret s JOIN data_key k ON k.organisation = s.organisation AND k.version = s.key_version
 WHERE s.organisation = current_organisation() AND s.name = $1
