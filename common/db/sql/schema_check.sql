-- Is the schema there, for this role, and how new is it? $1 int: the newest migration that this release knows.
-- Columns: bool, all of them are applied; text, the search path. It is set again because PostgreSQL remembers which of its
-- schemas a role may use, and does not notice a membership that is granted afterwards: this connection has waited for that.
-- Index: the primary key of schema_migration.
SELECT coalesce(max(number), 0) >= $1::int, set_config('search_path', current_setting('search_path'), false)
  FROM ropewalk.schema_migration
