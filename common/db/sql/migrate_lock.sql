-- Takes the lock of the one migrator in this database, until the session ends. No parameters. Column: bool, false: another
-- has it. It is asked for again and again rather than waited for: an index that is built concurrently waits for every
-- statement that is under way, also for one that waits for this lock.
SELECT pg_try_advisory_lock(1919119218)
