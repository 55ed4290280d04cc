-- Secrets sealed with the data key in use, each only if its value is still the one that was read.
-- $1 int4 version of the data key  $2 text[] names  $3 int4[] versions of values  $4 bytea[] boxes
-- Columns: name text, one row for each. Primary key. Locks their rows.
UPDATE secret s SET key_version = $1, box = n.box
  FROM unnest($2::text[], $3::int4[], $4::bytea[]) AS n (name, version, box)
 WHERE s.organisation = current_organisation() AND s.name = n.name AND s.version = n.version AND s.key_version <> $1
RETURNING s.name
