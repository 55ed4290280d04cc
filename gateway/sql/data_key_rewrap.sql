-- Data keys wrapped again, each only if it is still as it was read (SECURITY DEFINER).
-- $1 int4[] organisations  $2 int4[] versions  $3 bytea[] as they were wrapped  $4 text id of the master key
-- $5 bytea[] as they are wrapped now
-- Columns: done int8. Locks their rows, in order of organisation and version.
SELECT count(*) FILTER (WHERE data_key_rewrap(org, version, was, $4, wrapped))
  FROM (SELECT * FROM unnest($1::int4[], $2::int4[], $3::bytea[], $5::bytea[]) AS u (org, version, was, wrapped)
         ORDER BY org, version) k
