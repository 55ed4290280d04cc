-- Secrets of an organisation as they are stored, for a task that needs them; notes that they are used, to the minute.
-- $1 int4 organisation  $2 text[] names
-- Columns: name text, key_version int4, master text, wrapped bytea, box bytea. Primary keys. Locks rows whose use is noted,
-- if nobody has them.
WITH used AS (
    UPDATE secret SET last_used_at = now()
     WHERE organisation = $1 AND name IN (
           SELECT name FROM secret WHERE organisation = $1 AND name = ANY ($2::text[])
              AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute') FOR NO KEY UPDATE SKIP LOCKED))
SELECT s.name, s.key_version, k.master, k.wrapped, s.box
  FROM secret s JOIN data_key k ON k.organisation = s.organisation AND k.version = s.key_version
 WHERE s.organisation = $1 AND s.name = ANY ($2::text[])
