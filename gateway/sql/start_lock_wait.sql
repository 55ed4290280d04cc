-- How long this transaction waits for a lock.
-- $1 text as lock_timeout takes it
SELECT set_config('lock_timeout', $1, true)
