-- One migrator at a time in this database, until the session ends. No parameters. Waits for the advisory lock.
SELECT pg_advisory_lock(1919119218)
