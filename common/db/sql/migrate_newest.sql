-- The newest migration of this database. No parameters. Column: int, 0 before the first. No locks.
SELECT coalesce(max(number), 0) FROM ropewalk.schema_migration
