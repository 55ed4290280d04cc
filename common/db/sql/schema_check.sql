-- Is the schema there, for this role, and how new is it? $1 int: the newest migration that this release knows.
-- Column: bool, all of them are applied. Index: the primary key of schema_migration.
SELECT coalesce(max(number), 0) >= $1::int FROM ropewalk.schema_migration
