-- A schedule that PostgreSQL refuses to fire is not looked at any more, until somebody changes or resumes it.
-- $1 uuid id  $2 int4 revision  $3 json why
-- Primary key. Locks: its row. The caller has asked shard_guard.
UPDATE schedule SET due_at = NULL, next_at = NULL, fault = $3 WHERE id = $1 AND revision = $2
