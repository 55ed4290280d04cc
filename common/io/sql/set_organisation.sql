-- Names the organisation for row-level security until the transaction ends.
-- $1 text: organisation.id in decimal. Column: the value. No locks.
SELECT set_config('ropewalk.organisation', $1, true)
