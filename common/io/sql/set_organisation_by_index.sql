-- Names the organisation for row-level security until the transaction ends, and has its statements planned once, to read by
-- index: where tables have partitions planning costs many times what reading some rows does.
-- $1 text: organisation.id in decimal. Columns: the values. No locks.
SELECT set_config('ropewalk.organisation', $1, true), set_config('plan_cache_mode', 'force_generic_plan', true),
       set_config('enable_seqscan', 'off', true)
