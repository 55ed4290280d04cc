-- Secrets that are sealed with another data key than the one in use, each with its own.
-- $1 int4 version of the data key in use  $2 int4 how many at most
-- Columns: name text, version int4, key_version int4, master text, wrapped bytea, box bytea, remaining int8 (with these).
-- Index: secret_key_version. No locks.
SELECT s.name, s.version, s.key_version, k.master, k.wrapped, s.box, count(*) OVER ()
  FROM secret s JOIN data_key k ON k.organisation = s.organisation AND k.version = s.key_version
 WHERE s.organisation = current_organisation() AND s.key_version <> $1 ORDER BY s.name LIMIT $2
