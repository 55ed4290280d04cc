-- Ends server processes of this scheduler's lost batch connections and waits until they are gone, so that a batch whose
-- outcome is unknown is decided: whatever such a process had been sent it would still do. $1 text: application_name of this
-- process's batch connections. Column: bool, gone within 5 s. The role may end those of its own kind.
SELECT pg_terminate_backend(pid, 5000)
  FROM pg_stat_activity
 WHERE application_name = $1 AND datname = current_database() AND pid <> pg_backend_pid()
